// What a mask cuts, by layer: a row for each layer, darker where more of it is cut.

import { percent, plural } from "./format";
import type { Cuts } from "./safetensors";

const CELLS = 32;
const LEVELS = [0, 0.01, 0.03, 0.1, 0.3];

interface Row { name: string; cells: { share: number; told: string }[]; total: string }

/** A level from 0 (nothing) to 5 (nearly all). */
function level(share: number): number {
  return share === 0 ? 0 : LEVELS.filter((each) => share >= each).length;
}

/** Indices gathered into at most 32 cells of a layer. */
function binned(indices: Int32Array | undefined, all: number, what: string): Row["cells"] {
  const cells = Math.min(CELLS, all);
  const counts = new Array<number>(cells).fill(0);
  for (const index of indices ?? []) counts[Math.floor((index * cells) / all)]!++;
  return counts.map((count, cell) => {
    const [from, to] = [Math.ceil((cell * all) / cells), Math.ceil(((cell + 1) * all) / cells)];
    return { share: count / (to - from), told: `${what} ${from} to ${to - 1}: ${count} cut` };
  });
}

export function rows(cuts: Cuts, kind: "neurons" | "heads" | "weights"): Row[] {
  if (kind === "weights") {
    return cuts.weights.map((each) => ({
      name: each.parameter,
      cells: [{ share: each.cut === null ? 0 : each.cut / each.all, told: each.cut === null ? "not known" : `${each.cut} of ${each.all}` }],
      total: each.cut === null ? "in the file" : `${plural(each.cut, "weight")}, ${percent(each.cut / each.all)}`,
    }));
  }
  const all = cuts[kind];
  return Array.from({ length: cuts.layers }, (_, layer) => ({
    name: `layer ${layer}`,
    cells: binned(cuts.indices[kind].get(layer), all, kind === "neurons" ? "neurons" : "heads"),
    total: `${cuts.counts[kind].get(layer) ?? 0} of ${all.toLocaleString("en")}`,
  }));
}

export function Heatmap({ cuts }: { cuts: Cuts }) {
  const kinds = (["neurons", "heads", "weights"] as const).filter((kind) => (kind === "weights" ? cuts.weights.length : cuts.counts[kind].size));
  if (!kinds.length) return <p class="muted">It cuts nothing.</p>;
  return (
    <>
      {kinds.map((kind) => (
        <div class="heat" role="group" aria-label={`Cut ${kind} by layer`} tabIndex={0}>
          <table>
            <caption>{kind === "weights" ? "Single weights, by matrix" : `${kind === "neurons" ? "Neurons" : "Heads"} of each layer, from the first to the last`}</caption>
            <tbody>
              {rows(cuts, kind).map((row) => (
                <tr>
                  <th scope="row">{row.name}</th>
                  <td class="cells">
                    <svg viewBox={`0 0 ${row.cells.length} 1`} preserveAspectRatio="none" aria-hidden="true">
                      {row.cells.map((cell, place) => <rect class={`heat-${level(cell.share)}`} x={place} width={row.cells.length > 1 ? 0.94 : 1} height="1"><title>{row.name}, {cell.told}</title></rect>)}
                    </svg>
                  </td>
                  <td class="num">{row.total}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ))}
      <p class="heat-legend hint">
        <span>Of each cell is cut or dampened: </span>
        {["nothing", "a little", "over 1%", "over 3%", "over 10%", "over 30%"].map((name, place) => (
          <span><svg width="14" height="14" aria-hidden="true"><rect class={`heat-${place}`} width="14" height="14" /></svg> {name}</span>
        ))}
      </p>
    </>
  );
}
