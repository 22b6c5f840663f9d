// One experiment: the verdict, how it got there, and what may be done about it. Live while it runs.

import { useState } from "preact/hooks";
import { call, enc } from "./api";
import { Chart } from "./chart";
import { METRICS, NOTHING, number, percent, plural, seconds, when } from "./format";
import { useLoad } from "./hooks";
import { Interval } from "./interval";
import { useSession } from "./session";
import { STATUS } from "./experiments";
import { End, Pause, Traffic } from "./steer";
import type { Estimate, Experiment, RateFigures, Report, VariantFigures } from "./types";
import { Act, Badge, Card, Dialog, Load, Notice, Page, Table, Warnings } from "./ui";
import { Verdict } from "./verdict";

type Asked = { kind: "stop" | "pause" | "resume" | "traffic" | "delete"; winner?: string } | null;

export function ExperimentPage({ name }: { name: string }) {
  const { overview, refresh } = useSession();
  const brief = overview.experiments.find((each) => each.name === name);
  const live = brief?.status !== "stopped";
  const report = useLoad((signal) => call<Report>(`/experiments/${enc(name)}/report`, { signal }), name, live ? 10 : 0);
  const admin = overview.key === "admin";
  const detail = useLoad(
    async (signal) => (admin ? call<Experiment>(`/experiments/${enc(name)}`, { signal }) : null), `${name} ${admin}`, live ? 10 : 0,
  );
  const [asked, setAsked] = useState<Asked>(null);
  const changed = async () => {
    await refresh();
    await Promise.all([report.again(), detail.again()]);
  };
  const routed = overview.target === `experiment:${name}`;
  const close = () => setAsked(null);

  return (
    <Page
      title={name}
      lead={brief && <><Badge kind={STATUS[brief.status]}>{brief.status}</Badge>{live && (routed ? <Badge kind="good">gets the default traffic</Badge> : <Badge kind="warn">gets no traffic</Badge>)} begun {when(brief.created_at)}</>}
      actions={live ? (
        <>
          <Act onClick={() => setAsked({ kind: brief?.status === "paused" ? "resume" : "pause" })}>{brief?.status === "paused" ? "Resume" : "Pause"}</Act>
          <Act kind="danger" onClick={() => setAsked({ kind: "stop" })}>Stop and roll back</Act>
        </>
      ) : <Act onClick={() => setAsked({ kind: "delete" })}>Delete</Act>}
    >
      {brief?.status === "running" && !routed && (
        <Notice kind="warn" title="Nobody is in this experiment yet.">
          The default route leads elsewhere, so no request comes here.{" "}
          <Act kind="primary" onClick={() => setAsked({ kind: "traffic" })}>Send traffic here</Act>
        </Notice>
      )}
      <Load of={report}>
        {(found) => <Found report={found} detail={detail.data} routed={routed} onWin={(winner) => setAsked({ kind: "stop", winner })} />}
      </Load>
      {asked?.kind === "stop" && report.data && <End report={report.data} winner={asked.winner} routed={routed} onClose={close} onDone={changed} />}
      {(asked?.kind === "pause" || asked?.kind === "resume") && <Pause name={name} resume={asked.kind === "resume"} control={brief!.variants[brief!.control]!} onClose={close} onDone={changed} />}
      {asked?.kind === "traffic" && <Traffic name={name} onClose={close} onDone={changed} />}
      {asked?.kind === "delete" && (
        <Dialog title={`Delete ${name}?`} act="Delete" danger onClose={close}
          onAct={async () => { await call(`/experiments/${enc(name)}`, { method: "DELETE" }); location.hash = "#/experiments"; await refresh(); }}>
          <p>The experiment and everything that was counted in it are gone for good. Its name cannot be used again.</p>
        </Dialog>
      )}
    </Page>
  );
}

function Found({ report, detail, routed, onWin }: { report: Report; detail: Experiment | null; routed: boolean; onWin: (name: string) => void }) {
  const feedback = report.metric === "feedback";
  const series = report.variants.map((variant) => ({
    name: `${variant.name} (${variant.mask})`,
    points: report.course.filter((each) => each.variant === variant.name).map((each) => ({ at: each.start, value: each.value })),
  }));
  const live = report.status !== "stopped";
  return (
    <>
      <Verdict report={report} routed={routed} />
      <Card title={`${capital(METRICS[report.metric]!)} over time`}>
        <Chart label={`${METRICS[report.metric]} over time, by variant`} series={series} zero={!feedback} show={feedback ? (value) => number(value, 2) : percent} />
        <p class="hint">Of every response, as it came: to see what happened when. The verdict goes by the first response of each {report.unit}.</p>
      </Card>
      {report.comparisons.map((each) => {
        const found = feedback ? each.feedback : each.differences[report.metric as "toxicity"];
        const mask = report.variants.find((variant) => variant.name === each.variant)!.mask;
        return (
          <Card title={<>{each.variant} <span class="muted">({mask})</span> against {report.control}: {each.decision}</>}>
            <Interval of={found} margin={report.margin} scale={feedback ? 1 : 100}
              better={feedback ? "worse" : `fewer ${METRICS[report.metric]}`} worse={feedback ? "better" : "more"} />
            <p>{each.why}</p>
            {live && (
              <Act kind={each.decision === "better" ? "primary" : "plain"} onClick={() => onWin(each.variant)}>
                Make {each.variant} the winner
              </Act>
            )}
          </Card>
        );
      })}
      <Card title="What each variant did"><Variants of={report.variants} unit={report.unit} /></Card>
      <Guardrails report={report} />
      {detail && detail.ramp.length > 0 && <Ramp of={detail} />}
      <Card title="Good to know"><ul class="notes">{report.notes.map((each) => <li>{each}</li>)}</ul></Card>
    </>
  );
}

function Variants({ of, unit }: { of: VariantFigures[]; unit: string }) {
  const rows: [string, (each: VariantFigures) => unknown][] = [
    ["share of the users now", (each) => (each.role === "mirrored" ? `${percent(each.share)}, unseen copies` : percent(each.share))],
    ["responses", (each) => number(each.responses)],
    [`${unit}s counted in tests`, (each) => number(each.units)],
    ["toxic", (each) => <Rate of={each.rates.toxicity} />],
    ["repetitive", (each) => <Rate of={each.rates.repetition} />],
    ["refusals", (each) => <Rate of={each.rates.refusal} />],
    ["failed requests", (each) => <Rate of={each.rates.error} />],
    ["coherence, nats a token", (each) => <Mean of={each.coherence} digits={2} />],
    ["mean length, tokens", (each) => <Mean of={each.length} digits={0} />],
    ["slowest 5% take", (each) => (each.latency_p95 ? seconds(each.latency_p95.value) : NOTHING)],
    ["users' feedback, −1 to 1", (each) => (each.rated ? <Mean of={each.feedback} digits={2} /> : NOTHING)],
  ];
  return (
    <>
      <Table label="What each variant did" head={[<span class="hidden">what</span>, ...of.map((each) => <>{each.name}<br /><span class="muted">{each.mask}</span></>)]}>
        {rows.map(([title, show]) => <tr><th scope="row">{title}</th>{of.map((each) => <td class="num">{show(each) as never}</td>)}</tr>)}
      </Table>
      {of.map((each) => <Warnings of={each.warnings} title={`${each.mask} was registered with a warning.`} />)}
    </>
  );
}

function Rate({ of }: { of: RateFigures }) {
  if (!of.unit_trials) return <>{NOTHING}</>;
  return <>{percent(of.unit_value)} <span class="muted small">{percent(of.low)} to {percent(of.high)}</span></>;
}

function Mean({ of, digits }: { of: Estimate; digits: number }) {
  if (of.value === null) return <>{NOTHING}</>;
  return <>{number(of.value, digits)} {of.low !== null && <span class="muted small">{number(of.low, digits)} to {number(of.high, digits)}</span>}</>;
}

function Guardrails({ report }: { report: Report }) {
  return (
    <Card title="Guardrails">
      <p class="hint">Each is a promise: when the evidence says that a variant broke one, the experiment stops by itself and everybody gets {report.control} again.</p>
      <ul class="rails">
        {report.guardrails.map((each) => (
          <li>
            <Badge kind={each.crossed ? "bad" : each.value === null ? "" : "good"}>{each.crossed ? "crossed" : each.value === null ? "not known yet" : "not crossed"}</Badge>{" "}
            {each.why}
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Ramp({ of }: { of: Experiment }) {
  return (
    <Card title="Ramp">
      <ol class="ramp">
        {of.ramp.map((step, place) => (
          <li aria-current={of.status !== "stopped" && place === of.step ? "step" : undefined}>
            <strong>{step.share === 1 ? "everybody: it has won" : `${percent(step.share)} of the users`}</strong>
            {step.share < 1 && <span class="muted"> for at least {plural(step.minutes, "minute")} and {plural(step.responses, "counted response")} of each variant</span>}
            {of.status !== "stopped" && place === of.step && <Badge kind="good">now, since {when(of.step_since)}</Badge>}
          </li>
        ))}
      </ol>
      <p class="hint">The next step comes by itself, only while no guardrail is crossed and nothing is known to be worse.</p>
    </Card>
  );
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
