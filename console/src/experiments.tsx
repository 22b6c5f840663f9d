// The list of experiments, and how to begin one.

import { call, enc } from "./api";
import { ago, METRICS, percent } from "./format";
import { useLoad } from "./hooks";
import { useSession } from "./session";
import type { Brief, Report } from "./types";
import { Badge, Empty, Page, Table } from "./ui";

export const STATUS: Record<string, string> = { running: "good", paused: "warn", stopped: "" };

export function Experiments() {
  const { overview } = useSession();
  return (
    <Page
      title="Experiments"
      lead="Put a mask before some of the users, watch what it does to the responses, and go on or back. You may look as often as you like."
      actions={<a class="button primary" href="#/experiments/new">New experiment</a>}
    >
      {overview.experiments.length === 0 ? (
        <Empty title="No experiments yet.">
          <p>An experiment gives a part of the users another mask and says, with numbers, whether that is better.</p>
          <p><a href="#/experiments/new">Start the first one</a>, or <a href="#/playground">try a mask yourself</a> before anybody else sees it.</p>
        </Empty>
      ) : (
        <Table stack label="Experiments" head={["name", "state", "verdict", "who gets what", "about", "begun"]}>
          {overview.experiments.map((each) => <Row of={each} target={overview.target} />)}
        </Table>
      )}
    </Page>
  );
}

function Row({ of, target }: { of: Brief; target: string }) {
  const here = target === `experiment:${of.name}`;
  return (
    <tr>
      <th scope="row"><a href={`#/experiments/${of.name}`}>{of.name}</a></th>
      <td>
        <Badge kind={STATUS[of.status]}>{of.status}</Badge>
        {of.status !== "stopped" && !here && <Badge kind="warn">no traffic</Badge>}
        {of.steps > 0 && of.status !== "stopped" && <span class="muted"> step {of.step + 1} of {of.steps}</span>}
      </td>
      <td data-label="verdict">{of.status === "stopped" ? (of.winner ? `${of.winner} won` : "back to the control") : <Verdict name={of.name} />}</td>
      <td data-label="who gets what">
        {Object.entries(of.variants).map(([name, mask]) => (
          <span class="pair">{mask}{name in of.share && <span class="muted"> {percent(of.share[name])}</span>}</span>
        ))}
      </td>
      <td data-label="about">{METRICS[of.metric]}</td>
      <td class="muted" data-label="begun">{ago(of.created_at)}</td>
    </tr>
  );
}

/** A report takes the server a second, so it is asked for of those alone that go on, and not often. */
function Verdict({ name }: { name: string }) {
  const { data, error } = useLoad((signal) => call<Report>(`/experiments/${enc(name)}/report`, { signal }), name, 20);
  if (!data) return <span class="muted">{error ? "not known now" : "…"}</span>;
  return <>{data.headline}</>;
}
