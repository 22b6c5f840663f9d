// The draft of an experiment: what the form holds, what is wrong with it, the call that it makes, and its words.

import { METRICS, percent, plural } from "./format";
import type { Overview, Rate, Step } from "./types";

export interface Draft {
  name: string; masks: string[]; control: string; metric: Rate | "feedback"; margin: number; unit: "user" | "request";
  plan: "careful" | "quick" | "split" | "mirror"; share: number;
  /** Shares in percent. */
  steps: Step[];
  rails: Record<string, number>; route: boolean;
}

export const UNITS = {
  user: "The request's “user” field says who asks. Someone who comes back gets the same variant, and counts once.",
  request: "For traffic that names no users. The same person may meet both variants.",
};

export const RAMPS: Record<string, { title: string; why: string; steps: Step[] }> = {
  careful: {
    title: "Careful canary (recommended)",
    why: "1% first, then 5%, 25%, everybody. It goes on by itself, and only while nothing is wrong.",
    steps: [
      { share: 1, minutes: 60, responses: 500 }, { share: 5, minutes: 60, responses: 2000 },
      { share: 25, minutes: 600, responses: 5000 }, { share: 100, minutes: 0, responses: 0 },
    ],
  },
  quick: {
    title: "Quick canary",
    why: "10% first, then half, then everybody. For little traffic, or a mask that you trust.",
    steps: [
      { share: 10, minutes: 10, responses: 100 }, { share: 50, minutes: 30, responses: 300 }, { share: 100, minutes: 0, responses: 0 },
    ],
  },
  split: { title: "Fixed split", why: "The share that you say, until you stop it. Half and half decides soonest.", steps: [] },
  mirror: { title: "Copies that nobody sees", why: "Users get the control. Some requests are answered a second time by the mask, scored, and thrown away.", steps: [] },
};

export const RAILS: Record<string, { title: string; margin: number; step: number; unit: string; scored?: boolean; relative?: boolean }> = {
  coherence: { title: "Answers turn into gibberish: coherence falls", margin: 0.5, step: 0.1, unit: "nats a token" },
  repetition: { title: "Repetitive responses rise", margin: 2, step: 0.5, unit: "points", scored: true },
  toxicity: { title: "Toxic responses rise", margin: 1, step: 0.5, unit: "points", scored: true },
  refusal: { title: "Refusals rise", margin: 5, step: 0.5, unit: "points", scored: true },
  error: { title: "Failed requests rise", margin: 1, step: 0.5, unit: "points" },
  latency_p95: { title: "The slowest 5% of answers get slower", margin: 20, step: 5, unit: "%" },
  length: { title: "Answers get longer", margin: 50, step: 5, unit: "%" },
};

const safe = (text: string) => text.replace("@", "-v").replace(/[^a-z0-9._-]/g, "-");

/** The variants' names: the control's, and one after each mask. */
export function arms(draft: Draft): { name: string; mask: string; weight?: number; mirror?: number }[] {
  const mirrored = draft.plan === "mirror";
  const part = draft.share / draft.masks.length;
  const control = { name: "control", mask: draft.control, weight: draft.plan === "split" ? 100 - draft.share : 50 };
  return [
    control,
    ...draft.masks.map((mask, place) => ({
      name: safe(mask) + (draft.masks.indexOf(mask) < place ? "-again" : ""), mask,
      ...(mirrored ? { mirror: part / 100 } : { weight: draft.plan === "split" ? part : 50 / draft.masks.length }),
    })),
  ];
}

export function body(draft: Draft): Record<string, unknown> {
  const ramped = draft.plan === "careful" || draft.plan === "quick";
  return {
    name: draft.name, unit: draft.unit, metric: draft.metric, margin: draft.metric === "feedback" ? draft.margin : draft.margin / 100,
    control: "control", variants: arms(draft),
    guardrails: Object.entries(draft.rails).map(([metric, margin]) => ({ metric, margin: metric === "coherence" ? margin : margin / 100 })),
    ramp: ramped ? draft.steps.map((step) => (step.share >= 100 ? { share: 1 } : { share: step.share / 100, minutes: step.minutes, responses: step.responses })) : [],
  };
}

/** What stands against starting, in words. */
export function problems(draft: Draft, overview: Overview): string[] {
  const found: string[] = [];
  const numbers = [draft.margin, draft.share, ...Object.values(draft.rails), ...draft.steps.flatMap((each) => [each.share, each.minutes, each.responses])];
  if (!/^[a-z0-9][a-z0-9._-]{0,63}$/.test(draft.name)) found.push("Give it a name of small letters, digits, dots and dashes.");
  if (overview.experiments.some((each) => each.name === draft.name)) found.push(`There is an experiment ${draft.name} already: choose another name.`);
  if (draft.masks.includes(draft.control)) found.push("The mask and what it is compared with are the same.");
  if (new Set(draft.masks).size < draft.masks.length) found.push("The two masks are the same.");
  if (numbers.some((each) => !Number.isFinite(each) || each < 0)) found.push("A number is missing, or below 0.");
  if (!(draft.margin > 0)) found.push("The smallest difference that matters must be above 0.");
  if (draft.plan === "split" && !(draft.share > 0 && draft.share < 100)) found.push("The share must be above 0% and below 100%.");
  if (draft.plan === "mirror" && !(draft.share > 0 && draft.share <= 100)) found.push("The share must be above 0%, and 100% at most.");
  const shares = draft.steps.map((each) => each.share);
  const ramped = draft.plan === "careful" || draft.plan === "quick";
  if (ramped && shares.some((each, place) => place > 0 && each <= shares[place - 1]!)) found.push("Each step of the ramp must have a larger share than the one before.");
  if (ramped && !shares.length) found.push("A ramp needs a step; or choose a fixed split.");
  if (ramped && shares.includes(100) && draft.masks.length > 1) found.push("With two masks to try, nobody can be given everybody: remove the step of 100%.");
  if (ramped && shares.length === 1 && shares[0] === 100) found.push("A step for everybody needs a step before it.");
  if (["toxicity", "repetition", "refusal"].includes(draft.metric) && !overview.scores) found.push("This server scores no responses, so that would never be known. Choose failed requests or feedback.");
  return found;
}

/** What will happen, a sentence each. */
export function words(draft: Draft): string[] {
  const tried = draft.masks.join(" and ");
  const who = draft.unit === "user" ? "users" : "requests";
  const first = draft.plan === "split" ? draft.share : draft.steps[0]?.share ?? 0;
  const margin = draft.metric === "feedback" ? `${draft.margin}` : plural(draft.margin, "point");
  const last = draft.steps.at(-1)?.share === 100 && (draft.plan === "careful" || draft.plan === "quick");
  const shown = draft.plan === "mirror"
    ? `Everybody goes on getting ${draft.control}. ${percent(draft.share / 100)} of the ${who} are answered a second time by ${tried}, and nobody sees that.`
    : `${percent(first / 100)} of the ${who} get ${tried}${draft.plan === "split" ? "" : " at first"}; all others get ${draft.control}.`;
  const rails = Object.keys(draft.rails).map((each) => METRICS[each]!);
  return [
    shown,
    ...(last ? [`Step by step it becomes more, and if nothing is wrong at the last step, everybody gets ${tried} without you doing anything.`] : []),
    `The verdict says “better” once it is certain that ${tried} has ${draft.metric === "feedback" ? "better feedback" : `fewer ${METRICS[draft.metric]}`} by more than ${margin}.`,
    rails.length ? `It stops by itself, and everybody gets ${draft.control}, if it does harm to ${rails.join(", ")}.` : "Nothing stops it by itself: there is no guardrail.",
    draft.route ? "It begins with the next request. You can stop it and roll back at any time." : "Nobody is in it until you send the default traffic there.",
  ];
}
