// Two masks beside each other: what both cut, what only one does, and what each measured.

import { call } from "./api";
import { Choose } from "./create";
import { percent, plural } from "./format";
import { Heatmap } from "./heatmap";
import { useHash, useLoad } from "./hooks";
import { counts } from "./masks";
import { MeasuredTable } from "./measured";
import { cuts, type Cuts } from "./safetensors";
import { targets } from "./targets";
import type { List, Mask } from "./types";
import { Card, Field, Load, Notice, Page, Table, Warnings } from "./ui";

export function Compare() {
  const masks = useLoad((signal) => call<List<Mask>>("/masks?limit=1000", { signal }), "masks");
  return (
    <Page title="Compare two masks" lead={<a href="#/masks">All masks</a>}>
      <Load of={masks}>{({ data }) => (data.length > 1 ? <Chosen masks={data} /> : <Notice>There are no two masks yet.</Notice>)}</Load>
    </Page>
  );
}

function Chosen({ masks }: { masks: Mask[] }) {
  const { query } = useHash();
  const labels = targets(masks);
  const a = labels.includes(query.get("a") ?? "") ? query.get("a")! : labels[0]!;
  const b = labels.includes(query.get("b") ?? "") ? query.get("b")! : labels.find((label) => label !== a)!;
  const go = (first: string, second: string) => (location.hash = `#/compare?a=${first}&b=${second}`);
  const [left, right] = [masks[labels.indexOf(a)]!, masks[labels.indexOf(b)]!];
  const files = useLoad(async (signal) => Promise.all([cuts(left, signal), cuts(right, signal)]), `${a} ${b}`);
  return (
    <>
      <div class="fields">
        <Field label="One mask">{(id) => <Choose id={id} of={labels} value={a} onChange={(label) => go(label, b)} />}</Field>
        <Field label="The other">{(id) => <Choose id={id} of={labels} value={b} onChange={(label) => go(a, label)} />}</Field>
      </div>
      <Load of={files}>
        {([one, other]) => (
          <>
            <Card title="What they share"><Overlap a={a} b={b} one={one} other={other} /></Card>
            <div class="columns two">
              {([[left, one], [right, other]] as const).map(([mask, found]) => (
                <Card title={<a href={`#/masks/${mask.name}/${mask.version}`}>{mask.name}@{mask.version}</a>}>
                  <p class="muted">{counts(mask)}</p>
                  <Warnings of={mask.warnings} />
                  <Heatmap cuts={found} />
                  <MeasuredTable mask={mask} />
                </Card>
              ))}
            </div>
          </>
        )}
      </Load>
    </>
  );
}

/** How many of two sorted lists are in both. */
function shared(one: Int32Array | undefined, other: Int32Array | undefined): number {
  const known = new Set(one);
  return Array.from(other ?? []).filter((each) => known.has(each)).length;
}

function Overlap({ a, b, one, other }: { a: string; b: string; one: Cuts; other: Cuts }) {
  const kind = one.counts.neurons.size || other.counts.neurons.size ? "neurons" : "heads";
  const layers = Array.from({ length: Math.max(one.layers, other.layers) }, (_, layer) => {
    const both = shared(one.indices[kind].get(layer), other.indices[kind].get(layer));
    return { layer, both, one: (one.counts[kind].get(layer) ?? 0) - both, other: (other.counts[kind].get(layer) ?? 0) - both };
  });
  const sum = (key: "both" | "one" | "other") => layers.reduce((total, each) => total + each[key], 0);
  const [both, left, right] = [sum("both"), sum("one"), sum("other")];
  if (!(both + left + right)) return <p class="muted">They cut single weights; what those share is not compared here.</p>;
  return (
    <>
      <p>
        Both cut or dampen <strong>{plural(both, kind.slice(0, -1))}</strong>, {percent(both / (both + left + right))} of all that either does. Only {a}: {left}. Only {b}: {right}.
        {one.layers !== other.layers && " They were made for different models."}
      </p>
      <Table label="Overlap by layer" head={["layer", "both", `only ${a}`, `only ${b}`]}>
        {layers.filter((each) => each.both + each.one + each.other).map((each) => (
          <tr><th scope="row">{each.layer}</th><td class="num">{each.both}</td><td class="num">{each.one}</td><td class="num">{each.other}</td></tr>
        ))}
      </Table>
    </>
  );
}
