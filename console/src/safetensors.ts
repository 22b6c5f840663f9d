// What a mask file cuts, read in the browser: masks/FORMAT.md is the specification.

import { enc, send } from "./api";
import type { Mask } from "./types";

/** Files up to this size are read whole; of larger ones only the header, which has the counts. */
const WHOLE = 16 * 2 ** 20;
const MOST_HEADER = 16 * 2 ** 20;

interface Entry { dtype: string; shape: number[]; data_offsets: [number, number] }

export interface Cuts {
  layers: number; neurons: number; heads: number;
  /** Layer → sorted indices; null where the file was too large to read whole. */
  indices: { neurons: Map<number, Int32Array>; heads: Map<number, Int32Array> };
  /** Kind → layer → how many. */
  counts: { neurons: Map<number, number>; heads: Map<number, number> };
  /** Parameter → cut and all elements; `cut` is null where only the data would tell. */
  weights: { parameter: string; cut: number | null; all: number }[];
}

/** Read a registered mask's file. Throws `ApiError`, or `Error` for what is no mask file. */
export async function cuts(mask: Mask, signal?: AbortSignal): Promise<Cuts> {
  const path = `/masks/${enc(mask.name)}/${mask.version}/file`;
  const whole = mask.size <= WHOLE;
  if (whole) return parse(new Uint8Array(await (await send(path, { signal })).arrayBuffer()), true);
  const first = await send(path, { signal, headers: { Range: "bytes=0-7" } });
  const length = Number(new DataView(await first.arrayBuffer()).getBigUint64(0, true));
  if (length > MOST_HEADER) throw new Error("The file's header is too long.");
  const head = await send(path, { signal, headers: { Range: `bytes=0-${7 + length}` } });
  return parse(new Uint8Array(await head.arrayBuffer()), false);
}

export function parse(data: Uint8Array, whole: boolean): Cuts {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const length = Number(view.getBigUint64(0, true));
  const { __metadata__, ...tensors } = JSON.parse(new TextDecoder().decode(data.subarray(8, 8 + length))) as Record<string, Entry> & { __metadata__: { excise: string } };
  const document = JSON.parse((__metadata__ as unknown as { excise: string }).excise);
  const { layers, neurons, heads } = document.base.geometry;
  const found: Cuts = {
    layers, neurons, heads, weights: [],
    indices: { neurons: new Map(), heads: new Map() }, counts: { neurons: new Map(), heads: new Map() },
  };
  for (const [name, entry] of Object.entries(tensors as Record<string, Entry>)) {
    const [kind, ...rest] = name.split(".");
    const [begin, end] = entry.data_offsets;
    if (kind === "neurons" || kind === "heads") {
      const layer = Number(rest[0]);
      found.counts[kind].set(layer, entry.shape[0]!);
      if (whole) found.indices[kind].set(layer, new Int32Array(data.slice(8 + length + begin, 8 + length + end).buffer));
    } else if (kind === "weights") {
      const parameter = rest.join(".");
      const [rows, columns] = document.shapes[parameter];
      const cut = entry.dtype === "I64" ? entry.shape[0]! : whole ? ones(data.subarray(8 + length + begin, 8 + length + end)) : null;
      found.weights.push({ parameter, cut, all: rows * columns });
    }
  }
  return found;
}

function ones(bits: Uint8Array): number {
  let count = 0;
  for (let byte of bits) for (; byte; byte &= byte - 1) count++;
  return count;
}
