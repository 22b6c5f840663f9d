// Traffic: what every mask answers, over time, whether in an experiment or not.

import { useState } from "preact/hooks";
import { call } from "./api";
import { Chart, type Series } from "./chart";
import { number, percent, plural } from "./format";
import { useLoad } from "./hooks";
import { useSession } from "./session";
import type { List, Point } from "./types";
import { Button, Card, Empty, Load, Notice, Page, Table } from "./ui";

const RANGES = [[1, "hour"], [6, "6 hours"], [24, "day"], [168, "week"], [720, "30 days"]] as const;
const MOST = 6;

export function Traffic() {
  const [hours, setHours] = useState(24);
  const points = useLoad((signal) => call<List<Point>>(`/traffic?hours=${hours}`, { signal }), String(hours), 10);
  const { overview } = useSession();
  return (
    <Page title="Traffic" lead="What each mask answers: of all requests, whether they are in an experiment or name a mask themselves.">
      <div class="actions" role="group" aria-label="How far back">
        {RANGES.map(([each, name]) => <Button pressed={each === hours} onClick={() => setHours(each)}>last {name}</Button>)}
      </div>
      {!overview.scores && <Notice kind="warn">This server scores no responses, so toxicity and repetition stay unknown.</Notice>}
      <Load of={points}>{({ data }) => (data.length ? <Charts points={data} /> : (
        <Empty title="Nothing was answered in that time.">
          <p>Ask something in the <a href="#/playground">playground</a>, or send requests to <code>/v1/chat/completions</code>. It shows here a second or two later.</p>
        </Empty>
      ))}</Load>
    </Page>
  );
}

function Charts({ points }: { points: Point[] }) {
  const sums = new Map<string, Point>();
  for (const each of points) {
    const before = sums.get(each.mask);
    const nats = (each.coherence ?? 0) * each.judged + (before?.coherence ?? 0) * (before?.judged ?? 0);
    const judged = each.judged + (before?.judged ?? 0);
    sums.set(each.mask, {
      ...each, responses: each.responses + (before?.responses ?? 0), scored: each.scored + (before?.scored ?? 0), toxic: each.toxic + (before?.toxic ?? 0),
      repetitive: each.repetitive + (before?.repetitive ?? 0), refusals: each.refusals + (before?.refusals ?? 0),
      truncated: each.truncated + (before?.truncated ?? 0), judged, coherence: judged ? nats / judged : null,
    });
  }
  const all = [...sums.values()].sort((a, b) => b.responses - a.responses);
  const shown = all.slice(0, MOST).map((each) => each.mask);
  const times = [...new Set(points.map((each) => each.start))].sort();
  const series = (value: (point: Point) => number | null): Series[] =>
    shown.map((mask) => ({
      name: mask,
      points: times.map((start) => {
        const found = points.find((each) => each.mask === mask && each.start === start);
        return { at: Date.parse(start) / 1000, value: found ? value(found) : null };
      }).filter((point, place, list) => point.value !== null || list[place - 1]?.value !== null),
    }));
  const rate = (key: "toxic" | "repetitive") => (each: Point) => (each.scored ? each[key] / each.scored : null);
  const judged = all.some((each) => each.judged);
  return (
    <>
      {all.length > MOST && <p class="hint">Drawn are the {MOST} masks with the most responses.</p>}
      <Card title="Toxic responses"><Chart label="Toxic responses by mask over time" series={series(rate("toxic"))} show={percent} zero /></Card>
      <Card title="Repetitive responses"><Chart label="Repetitive responses by mask over time" series={series(rate("repetitive"))} show={percent} zero /></Card>
      <Card title="Coherence, nats a token">
        {judged ? <Chart label="Coherence by mask over time" series={series((each) => each.coherence)} show={(value) => number(value, 2)} />
          : <p class="muted">Not known: coherence is judged of a sample of the responses of experiments.</p>}
        <p class="hint">What the base model thinks of the responses. Low means gibberish. Loops score high, so read it beside repetition.</p>
      </Card>
      <Card title="Sums">
        <Table label="Sums by mask" head={["mask", "responses", "toxic", "repetitive", "refusals", "cut off", "coherence"]}>
          {all.map((each) => (
            <tr>
              <th scope="row">{each.mask}</th>
              <td class="num">{number(each.responses)}{each.scored < each.responses && <span class="muted small"> {plural(each.scored, "scored", "scored")}</span>}</td>
              <td class="num">{each.scored ? percent(each.toxic / each.scored) : "–"}</td>
              <td class="num">{each.scored ? percent(each.repetitive / each.scored) : "–"}</td>
              <td class="num">{each.scored ? percent(each.refusals / each.scored) : "–"}</td>
              <td class="num">{each.responses ? percent(each.truncated / each.responses) : "–"}</td>
              <td class="num">{number(each.coherence, 2)}</td>
            </tr>
          ))}
        </Table>
      </Card>
    </>
  );
}
