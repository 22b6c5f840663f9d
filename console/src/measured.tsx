// What was measured of a mask before it was served: before and after, and whether the difference is certain.

import { number, percent, points } from "./format";
import type { Mask } from "./types";
import { Badge, Table } from "./ui";

type Three = [number, number, number];
type Four = [number, number, number, number];
type Measured = { before?: Record<string, number[]>; after?: Record<string, number[]>; difference?: Record<string, Three>; shown?: { before: Four; after: Four; difference: Three } };

export interface Finding { name: string; before: string; after: string; change: string; good: boolean | null }

const RATES = [["toxic", "toxic responses"], ["repetitive", "repetitive responses"], ["refusals", "refusals"]] as const;

/** One row for each thing measured. `good`: for the better for certain, for the worse, or null: not certain. */
export function findings(mask: Pick<Mask, "measured">): Finding[] {
  const measured = mask.measured as Measured;
  const found: Finding[] = [];
  const rate = (name: string, before?: number[], after?: number[], difference?: number[]) => {
    if (!before || !after || !difference || before.length < 2) return;
    const [value, low, high] = difference as Three;
    found.push({
      name, before: `${percent(before[0]! / before[1]!)} (${before[0]} of ${before[1]})`, after: `${percent(after[0]! / after[1]!)} (${after[0]} of ${after[1]})`,
      change: `${points(value)} points (${points(low)} to ${points(high)})`, good: high < 0 ? true : low > 0 ? false : null,
    });
  };
  if (measured.shown) rate("the behaviour itself", measured.shown.before, measured.shown.after, measured.shown.difference);
  for (const [key, name] of RATES) rate(name, measured.before?.[key], measured.after?.[key], measured.difference?.[key]);
  const [before, after, change] = [measured.before?.perplexity, measured.after?.perplexity, measured.difference?.perplexity];
  if (before && after && change) {
    found.push({
      name: "perplexity of ordinary text", before: number(before[0], 2), after: number(after[0], 2),
      change: `${change[0] > 0 ? "+" : ""}${number(100 * change[0], 1)}% (${number(100 * change[1], 1)} to ${number(100 * change[2], 1)})`,
      good: change[2] < 0 ? true : change[1] > 0 ? false : null,
    });
  }
  return found;
}

export function MeasuredTable({ mask }: { mask: Pick<Mask, "measured"> }) {
  const found = findings(mask);
  if (!found.length) return <p class="muted">Its file says nothing that was measured. Try it in the playground, and put it before a few users first.</p>;
  return (
    <Table stack label="Measured offline" head={["on what was held out", "without", "with the mask", "change (95% interval)", "for the"]}>
      {found.map((each) => (
        <tr>
          <th scope="row">{each.name}</th>
          <td class="num" data-label="without">{each.before}</td>
          <td class="num" data-label="with the mask">{each.after}</td>
          <td class="num" data-label="change">{each.change}</td>
          <td data-label="for the">{each.good === null ? <Badge>not certain</Badge> : each.good ? <Badge kind="good">better</Badge> : <Badge kind="warn">worse</Badge>}</td>
        </tr>
      ))}
    </Table>
  );
}
