// Numbers and times as people read them.

export const NOTHING = "–";

const minus = (text: string) => text.replace("-", "−");

/** A rate: 2.3%, 45%. */
export function percent(rate: number | null | undefined): string {
  if (rate === null || rate === undefined) return NOTHING;
  const each = 100 * rate;
  return `${minus(String(Number(each.toFixed(Math.abs(each) < 10 ? (Math.abs(each) < 1 ? 2 : 1) : 0))))}%`;
}

/** A difference of rates in percentage points, signed. */
export function points(difference: number | null | undefined): string {
  if (difference === null || difference === undefined) return NOTHING;
  const text = (100 * difference).toFixed(1);
  return Number(text) === 0 ? "0.0" : `${difference > 0 ? "+" : ""}${minus(text)}`;
}

export function number(value: number | null | undefined, digits = 0): string {
  if (value === null || value === undefined) return NOTHING;
  return minus(value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
}

export function seconds(value: number | null | undefined): string {
  return value === null || value === undefined ? NOTHING : `${value < 10 ? value.toPrecision(2) : Math.round(value)} s`;
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** Seconds since 1970, or ISO 8601, in the reader's own time zone. */
export function when(time: number | string): string {
  const date = new Date(typeof time === "number" ? 1000 * time : time);
  return date.toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

export function clock(time: number, long: boolean): string {
  const date = new Date(1000 * time);
  return long
    ? date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })
    : date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

/** "3 minutes ago". */
export function ago(time: number | string): string {
  const then = typeof time === "number" ? 1000 * time : Date.parse(time);
  const passed = Math.max(0, (Date.now() - then) / 1000);
  for (const [size, name] of [[86400, "day"], [3600, "hour"], [60, "minute"]] as const) {
    if (passed >= size) return `${plural(Math.floor(passed / size), name)} ago`;
  }
  return "just now";
}

export function bytes(size: number): string {
  if (size < 1024) return `${size} bytes`;
  if (size < 1024 ** 2) return `${(size / 1024).toFixed(1)} KiB`;
  return `${(size / 1024 ** 2).toFixed(1)} MiB`;
}

export const METRICS: Record<string, string> = {
  toxicity: "toxic responses",
  repetition: "repetitive responses",
  refusal: "refusals",
  error: "failed requests",
  length: "mean length",
  latency_p95: "slowest 5% of answers",
  coherence: "coherence",
  feedback: "users' feedback",
};
