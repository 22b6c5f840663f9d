// The verdict in words: what the report decided, what that means, and what to do now.

import { METRICS, percent, plural } from "./format";
import type { Decision, Report } from "./types";
import { Warnings } from "./ui";

const KIND: Record<Decision, string> = {
  "keep watching": "info", better: "good", worse: "bad", "no difference that matters": "info",
  "guardrail crossed": "bad", "broken split": "bad",
};

/** The decision, in a sentence for somebody who never read about statistics. */
export function meaning(report: Report): string {
  const names = report.about.join(" and ");
  const what = METRICS[report.metric];
  switch (report.decision) {
    case "better":
      return `The evidence is in: ${names} gives ${report.metric === "feedback" ? "better feedback" : `fewer ${what}`} than ${report.control}, by more than the smallest difference that you said matters.`;
    case "worse":
      return `The evidence is in: ${names} gives ${report.metric === "feedback" ? "worse feedback" : `more ${what}`} than ${report.control}, by more than the smallest difference that you said matters.`;
    case "no difference that matters":
      return `The evidence is in: whatever difference there is between ${names} and ${report.control} is too small to matter, by what you said matters.`;
    case "guardrail crossed":
      return `${names} did something that you ruled out: see the guardrails below.`;
    case "broken split":
      return "The variants did not get the share of users that they were meant to get, so this comparison cannot be trusted.";
    default:
      return `Nothing is decided yet. What was seen so far still fits with ${names} being better, the same or worse.`;
  }
}

/** What an operator should do about it. */
export function advice(report: Report, routed: boolean): string {
  if (report.status === "stopped") {
    return report.winner ? `It is over. ${report.winner} won.` : `It is over. Everybody was given back ${report.control}.`;
  }
  if (report.status === "paused") return `While it is paused everybody gets ${report.control} and nobody is counted. Resume it, or stop it.`;
  const more = report.comparisons.map((each) => each.more_units).filter((each): each is number => Boolean(each));
  switch (report.decision) {
    case "better":
      return `Stop the experiment with ${report.about[0]} as the winner: then everybody gets it. A ramp goes on by itself.`;
    case "worse":
    case "guardrail crossed":
      return `Stop the experiment: everybody is given back ${report.control}.`;
    case "no difference that matters":
      return `Stop the experiment. Keep ${report.control}, unless ${report.about.join(" or ")} is wanted for another reason.`;
    case "broken split":
      return "Stop it, look for crashes, timeouts or clients that give up, and begin a new experiment.";
    default:
      if (!routed) return "It gets no traffic: send the default route here.";
      return more.length
        ? `Let it run: about ${plural(rough(Math.max(...more)), `more ${report.unit}`)} would decide, if rates stay as they are. You may stop it at any time.`
        : "Let it run. You may stop it at any time.";
  }
}

export function Verdict({ report, routed }: { report: Report; routed: boolean }) {
  const kind = report.status === "stopped" && report.decision === "keep watching" ? "info" : KIND[report.decision];
  return (
    <section class={`verdict ${kind}`} aria-labelledby="verdict" aria-live="polite">
      <p class="eyebrow">Verdict</p>
      <h2 id="verdict">{/^(keep watching|broken)/.test(report.headline) ? sentenceCase(report.headline) : report.headline}</h2>
      <p class="muted">{report.variants.map((each) => `${each.name} is ${each.mask === "base" ? "the uncorrected model" : each.mask}`).join(", ")}.</p>
      <p>{meaning(report)}</p>
      <p><strong>What to do: </strong>{advice(report, routed)}</p>
      {report.status === "stopped" && report.reason && <p><strong>Why it ended: </strong>{report.reason}.</p>}
      <details>
        <summary>The numbers behind it</summary>
        <p>{report.why}</p>
        <p class="muted">{report.peeking} The chance of being misled was set to {percent(report.alpha)}.</p>
      </details>
      <Warnings of={report.warnings} title="Before you believe it." />
    </section>
  );
}

function sentenceCase(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** To two digits: it is no more than a guess. */
function rough(count: number): number {
  return Number(count.toPrecision(2));
}
