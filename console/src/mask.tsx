// One version of a mask: what it cuts, what it measured, who is given it, and how to give it to others or take it back.

import { useState } from "preact/hooks";
import { call, enc, send } from "./api";
import { bytes, when } from "./format";
import { Heatmap } from "./heatmap";
import { useLoad } from "./hooks";
import { counts } from "./masks";
import { MeasuredTable } from "./measured";
import { cuts } from "./safetensors";
import { useSession } from "./session";
import type { Alias, List, Mask } from "./types";
import { Act, Badge, Button, Card, Dialog, Field, Load, Notice, Page, Table, Warnings } from "./ui";

export function MaskPage({ name, version }: { name: string; version: number }) {
  const versions = useLoad((signal) => call<List<Mask>>(`/masks/${enc(name)}?limit=1000`, { signal }), name, 10);
  return (
    <Load of={versions}>
      {({ data }) => {
        const mask = data.find((each) => each.version === version);
        return mask ? <Found mask={mask} versions={data} onChange={versions.again} /> : <Page title={`${name}@${version}`}><Notice kind="warn">There is no version {version} of {name}. <a href="#/masks">To the masks</a></Notice></Page>;
      }}
    </Load>
  );
}

function Found({ mask, versions, onChange }: { mask: Mask; versions: Mask[]; onChange: () => Promise<void> }) {
  const { overview, refresh } = useSession();
  const label = `${mask.name}@${mask.version}`;
  const [asked, setAsked] = useState<"route" | "delete" | null>(null);
  const file = useLoad((signal) => cuts(mask, signal), mask.digest);
  const served = overview.target === label;
  const others = versions.filter((each) => each.version !== mask.version);
  return (
    <Page
      title={label}
      lead={<>{counts(mask)}{served && <Badge kind="good">everybody gets it</Badge>}</>}
      actions={
        <>
          <a class="button" href={`#/playground?mask=${label}`}>Try it</a>
          <a class="button primary" href={`#/experiments/new?mask=${label}`}>Start a canary</a>
          <Act disabled={served && "Everybody gets it already."} onClick={() => setAsked("route")}>Give it to everybody</Act>
        </>
      }
    >
      <Warnings of={mask.warnings} title="It was registered with a warning." />
      <Card title="What it measured, before it was served"><MeasuredTable mask={mask} /></Card>
      <Card title="What it cuts">
        <Load of={file}>{(found) => <Heatmap cuts={found} />}</Load>
      </Card>
      <Aliases name={mask.name} versions={versions} />
      <Card title="The file">
        <dl class="facts">
          <dt>digest</dt><dd><code>{mask.digest}</code></dd>
          <dt>size</dt><dd>{bytes(mask.size)} <Button onClick={() => void download(mask)}>Download</Button></dd>
          <dt>made for</dt><dd>{mask.base.id}</dd>
          <dt>made</dt><dd>{when(mask.created_at)} by {String(mask.made.criterion ?? "hand")}</dd>
          <dt>registered</dt><dd>{when(mask.registered_at)}</dd>
          <dt>asked for as</dt><dd><code>{mask.model}</code></dd>
        </dl>
        <details><summary>How it was made, in full</summary><pre tabIndex={0}>{JSON.stringify(mask.made, null, 2)}</pre></details>
        {others.length > 0 && <p>Compare with {others.map((each) => <a class="each" href={`#/compare?a=${each.name}@${each.version}&b=${label}`}>version {each.version}</a>)}</p>}
        <div class="actions"><Act kind="danger" onClick={() => setAsked("delete")}>Delete this version</Act></div>
      </Card>
      {asked === "route" && (
        <Dialog title={`Give ${label} to everybody?`} act="Give it to everybody" onClose={() => setAsked(null)}
          onAct={async () => { await call("/route", { method: "PUT", json: { target: label } }); await refresh(); }}>
          <p>From the next request on, everybody who asks for <code>{overview.model}</code> is answered with {label}. A canary tries it on a few users first. “Roll back”, at the top of every page, takes it back.</p>
          <Warnings of={mask.warnings} title="It has a warning." />
        </Dialog>
      )}
      {asked === "delete" && (
        <Dialog title={`Delete ${label}?`} act="Delete" danger onClose={() => setAsked(null)}
          onAct={async () => { await call(`/masks/${enc(mask.name)}/${mask.version}`, { method: "DELETE" }); location.hash = "#/masks"; await onChange(); }}>
          <p>The server forgets it; its number is never used again. What the route, an alias or an experiment uses is not deleted.</p>
        </Dialog>
      )}
    </Page>
  );
}

async function download(mask: Mask) {
  const blob = await (await send(`/masks/${enc(mask.name)}/${mask.version}/file`)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${mask.name}-${mask.version}.safetensors`;
  link.click();
  URL.revokeObjectURL(link.href);
}

function Aliases({ name, versions }: { name: string; versions: Mask[] }) {
  const aliases = useLoad((signal) => call<List<Alias>>(`/masks/${enc(name)}/aliases?limit=1000`, { signal }), name, 10);
  const [edited, setEdited] = useState<{ alias: string; version: number; fresh: boolean } | null>(null);
  const [back, setBack] = useState<Alias | null>(null);
  const { refresh } = useSession();
  const done = async () => {
    await Promise.all([aliases.again(), refresh()]);
  };
  return (
    <Card title={`Aliases of ${name}`}>
      <p class="hint">A name that points at a version and can be moved. <code>production</code> is what <code>{name}</code> alone stands for.</p>
      <Load of={aliases}>
        {({ data }) => data.length === 0 ? <p class="muted">None yet: <code>{name}</code> alone is its newest version.</p> : (
          <Table label="Aliases" head={["alias", "points at", <span class="hidden">change</span>]}>
            {data.map((each) => (
              <tr>
                <th scope="row">{each.alias}</th>
                <td><a href={`#/masks/${name}/${each.version}`}>version {each.version}</a></td>
                <td>
                  <div class="actions flat">
                    <Act label={`Move ${each.alias}`} onClick={() => setEdited({ alias: each.alias, version: each.version, fresh: false })}>Move</Act>
                    <Act label={`Roll ${each.alias} back`} onClick={() => setBack(each)}>Roll back</Act>
                  </div>
                </td>
              </tr>
            ))}
          </Table>
        )}
      </Load>
      <Act onClick={() => setEdited({ alias: aliases.data?.data.some((each) => each.alias === "production") ? "" : "production", version: versions.at(-1)!.version, fresh: true })}>New alias</Act>
      {edited && (
        <Dialog title={edited.fresh ? "New alias" : `Move ${edited.alias}`} act="Point it there" onClose={() => setEdited(null)}
          onAct={async () => { await call(`/masks/${enc(name)}/aliases/${enc(edited.alias)}`, { method: "PUT", json: { version: edited.version } }); await done(); }}>
          {edited.fresh && <Field label="Alias">{(id) => <input id={id} value={edited.alias} spellcheck={false} onInput={(event) => setEdited({ ...edited, alias: event.currentTarget.value })} />}</Field>}
          <Field label="Points at">
            {(id) => <select id={id} value={edited.version} onChange={(event) => setEdited({ ...edited, version: Number(event.currentTarget.value) })}>{versions.map((each) => <option value={each.version}>version {each.version}{each.warnings.length ? " (has warnings)" : ""}</option>)}</select>}
          </Field>
          <p>Requests that ask for <code>{name}@{edited.alias}</code> get that version from the next one on.</p>
        </Dialog>
      )}
      {back && (
        <Dialog title={`Roll ${back.alias} back?`} act="Roll back" danger onClose={() => setBack(null)}
          onAct={async () => { await call(`/masks/${enc(name)}/aliases/${enc(back.alias)}/rollback`, { method: "POST" }); await done(); }}>
          <p>It points at version {back.version} now, and goes back to the version before.</p>
        </Dialog>
      )}
    </Card>
  );
}
