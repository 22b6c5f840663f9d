// The API's documents, as far as the console reads them. The README and /openapi.json say what they mean.

export type Decision =
  | "keep watching" | "better" | "worse" | "no difference that matters" | "guardrail crossed" | "broken split";
export type Rate = "toxicity" | "repetition" | "refusal" | "error";
export type Metric = Rate | "latency_p95" | "length" | "coherence" | "feedback";
export type Status = "running" | "paused" | "stopped";

export interface Brief {
  name: string; status: Status; reason: string; winner: string | null; metric: Rate | "feedback"; control: string;
  variants: Record<string, string>; share: Record<string, number>; step: number; steps: number; created_at: string;
}

export interface Overview {
  key: "admin" | "reader" | "none"; changes: boolean; model: string; target: string; before: string | null; baked: string | null;
  scores: boolean; judges: boolean; keeps_flagged: number; experiments: Brief[];
}

export interface Estimate { value: number | null; low: number | null; high: number | null }

export interface RateFigures extends Estimate {
  events: number; trials: number; unit_events: number; unit_trials: number; unit_value: number | null;
}

export interface VariantFigures {
  name: string; mask: string; warnings: string[]; role: "control" | "shown" | "mirrored"; share: number;
  responses: number; errors: number; truncated: number; anonymous: number; scored: number; judged: number;
  rated: number; units: number; rates: Record<Rate, RateFigures>; length: Estimate; coherence: Estimate;
  feedback: Estimate; latency: Estimate | null; latency_p95: Estimate | null;
}

export interface Comparison {
  variant: string; decision: Decision; why: string;
  differences: Record<Rate, Estimate & { e_value: number | null; p_value: number | null }>;
  feedback: Estimate; control_units: number; variant_units: number; more_units: number | null;
}

export interface Bound {
  metric: Metric; direction: "increase" | "decrease"; margin: number; variant: string; crossed: boolean;
  shown: boolean | null; value: number | null; why: string;
}

export interface Course { start: number; minutes: number; variant: string; responses: number; value: number | null }

export interface Report {
  experiment: string; status: Status; reason: string; winner: string | null; decision: Decision; about: string[];
  headline: string; why: string; peeking: string; warnings: string[]; metric: Rate | "feedback"; margin: number;
  alpha: number; control: string; unit: "user" | "request"; created_at: number; made_at: number;
  variants: VariantFigures[]; comparisons: Comparison[]; guardrails: Bound[]; course: Course[]; notes: string[];
}

export interface Step { share: number; minutes: number; responses: number }

export interface Experiment {
  name: string; status: Status; control: string; revision: number; step: number; step_since: number; ramp: Step[];
  variants: { name: string; mask: string; weight: number; mirror: number }[]; warnings: string[];
  share: Record<string, number>;
}

export interface Mask {
  name: string; version: number; digest: string; size: number; registered_at: string; model: string;
  granularity: string; counts: Record<string, number>; dampened: number; rank: number | null;
  base: Record<string, string>; created_at: string; made: Record<string, unknown>;
  measured: Record<string, unknown>; warnings: string[];
}

export interface Alias { mask: string; alias: string; version: number; warnings: string[] }

export interface Point {
  start: string; minutes: number; mask: string; responses: number; scored: number; toxic: number; repetitive: number;
  refusals: number; truncated: number; judged: number; coherence: number | null;
}

export type Label = "confirmed" | "false alarm" | "unsure";
export interface Flagged {
  id: number; at: string; mask: string; experiment: string | null; variant: string | null; score: number;
  text: string; label: Label | null;
}

export interface Change {
  id: number; at: string; who: string; action: string; subject: string; before: unknown; after: unknown;
  reason: string | null;
}

export type JobState =
  | "queued" | "correcting" | "measuring" | "waiting" | "approved" | "canary" | "promoted" | "rolled back" | "done" | "failed"
  | "cancelled";
export interface Job {
  id: string; kind: "improve" | "regression"; state: JobState; waiting_for: "" | "traffic" | "promotion"; reason: string;
  spec: { mask: string; test: "toxicity" | "repetition"; share: number };
  made: { mask?: string; measured?: Record<string, unknown>; prompts?: number; experiment?: string; verdict?: string; holds?: boolean };
  lease: { holder: string; until: string } | null; free: boolean; created_at: string; changed_at: string;
}

export interface List<T> { data: T[]; total?: number }
