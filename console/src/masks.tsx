// The list of masks, and how a new one comes in.

import { useRef, useState } from "preact/hooks";
import { ApiError, call, sentence } from "./api";
import { ago, plural } from "./format";
import { useLoad } from "./hooks";
import { findings } from "./measured";
import { useSession, whyNot } from "./session";
import type { List, Mask } from "./types";
import { Act, Badge, Empty, Load, Notice, Page, Table } from "./ui";

export function Masks() {
  const masks = useLoad((signal) => call<List<Mask>>("/masks?limit=1000", { signal }), "masks", 10);
  const [chosen, setChosen] = useState<string[]>([]);
  const pick = (label: string) => setChosen(chosen.includes(label) ? chosen.filter((each) => each !== label) : [...chosen, label].slice(-2));
  return (
    <Page
      title="Masks" lead="A mask cuts the few parts of the model that carry a behaviour. The model itself stays as it is."
      actions={<><Upload onDone={masks.again} /></>}
    >
      <Load of={masks}>
        {({ data }) => data.length === 0 ? (
          <Empty title="No masks yet."><p>Make one with <code>excise correct</code> and upload its file here. Uploading changes nothing for anybody.</p></Empty>
        ) : (
          <>
            <Table stack label="Masks" head={[<span class="hidden">compare</span>, "mask", "cuts", "what it measured", "registered"]}>
              {data.map((mask) => <Row mask={mask} chosen={chosen} onPick={pick} />)}
            </Table>
            <p class="actions">
              {chosen.length === 2
                ? <a class="button" href={`#/compare?a=${chosen[0]}&b=${chosen[1]}`}>Compare {chosen[0]} with {chosen[1]}</a>
                : <span class="hint">Tick two masks to compare them.</span>}
            </p>
          </>
        )}
      </Load>
    </Page>
  );
}

function Row({ mask, chosen, onPick }: { mask: Mask; chosen: string[]; onPick: (label: string) => void }) {
  const label = `${mask.name}@${mask.version}`;
  const { overview } = useSession();
  return (
    <tr>
      <td class="tick"><input type="checkbox" aria-label={`Compare ${label}`} checked={chosen.includes(label)} onChange={() => onPick(label)} /></td>
      <th scope="row">
        <a href={`#/masks/${mask.name}/${mask.version}`}>{label}</a>
        {overview.target === label && <Badge kind="good">everybody gets it</Badge>}
        {mask.warnings.length > 0 && <Badge kind="warn">{plural(mask.warnings.length, "warning")}</Badge>}
      </th>
      <td data-label="cuts">{counts(mask)}</td>
      <td data-label="measured">
        {findings(mask).slice(0, 3).filter((each) => each.good !== null).map((each) => (
          <span class="pair">{each.name} <span class={each.good ? "good-text" : "warn-text"}>{each.change.replace(/ \(.*/, "")}</span></span>
        ))}
      </td>
      <td class="muted" data-label="registered">{ago(mask.registered_at)}</td>
    </tr>
  );
}

export function counts(mask: Mask): string {
  const found = Object.entries(mask.counts).filter(([, count]) => count).map(([kind, count]) => plural(count, kind.replace(/s$/, "")));
  return (found.join(", ") || "nothing") + (mask.dampened ? ` (${mask.dampened.toLocaleString("en")} only dampened)` : "");
}

function Upload({ onDone }: { onDone: () => Promise<void> }) {
  const { overview, refresh } = useSession();
  const input = useRef<HTMLInputElement>(null);
  const [told, setTold] = useState<{ kind: "good" | "warn" | "bad"; text: string; mask?: Mask } | null>(null);
  const [busy, setBusy] = useState(false);
  const upload = async (file: File) => {
    setBusy(true);
    setTold(null);
    try {
      const mask = await call<Mask>("/masks", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
      setTold({ kind: mask.warnings.length ? "warn" : "good", text: `${mask.name}@${mask.version} is registered. Nobody gets it yet. ${mask.warnings.join(" ")}`, mask });
      await Promise.all([onDone(), refresh()]);
    } catch (failed) {
      setTold({ kind: "bad", text: failed instanceof ApiError ? failed.message : sentence(String(failed)) });
    }
    setBusy(false);
    input.current!.value = "";
  };
  return (
    <div class="upload">
      <input ref={input} type="file" accept=".safetensors" class="hidden" tabIndex={-1} aria-label="Mask file" disabled={Boolean(whyNot(overview))}
        onChange={(event) => event.currentTarget.files?.[0] && void upload(event.currentTarget.files[0])} />
      <Act kind="primary" disabled={busy} onClick={() => input.current!.click()}>{busy ? "Uploading…" : "Upload a mask"}</Act>
      {told && (
        <Notice kind={told.kind} title={told.kind === "bad" ? "Not taken." : ""}>
          {told.text}{" "}{told.mask && <a href={`#/masks/${told.mask.name}/${told.mask.version}`}>Look at it</a>}
        </Notice>
      )}
    </div>
  );
}
