// Calls of the API: one place that knows the key and the shape of errors.

/** The address before `/console`: empty, or what a proxy puts in front. */
const ROOT = location.pathname.replace(/\/console\/?$/, "");
const KEPT = "excise-key";

let key = sessionStorage.getItem(KEPT) ?? "";

/** The key, kept for this tab alone, until it is closed. Never part of an address. */
export const keyring = {
  get: () => key,
  set(given: string) {
    key = given;
    if (given) sessionStorage.setItem(KEPT, given);
    else sessionStorage.removeItem(KEPT);
  },
};

/** An answer that is an error, in the server's words. */
export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string, readonly param: string | null = null) {
    super(message);
  }
}

export interface Sent { method?: string; json?: unknown; body?: Blob; headers?: Record<string, string>; signal?: AbortSignal }

/** The raw answer of a call that went well. Throws `ApiError`. */
export async function send(path: string, sent: Sent = {}): Promise<Response> {
  const headers: Record<string, string> = { ...sent.headers };
  if (key) headers["Authorization"] = `Bearer ${key}`;
  if (sent.json !== undefined) headers["Content-Type"] = "application/json";
  const body = sent.json !== undefined ? JSON.stringify(sent.json) : sent.body;
  let answer: Response;
  try {
    answer = await fetch(ROOT + path, { method: sent.method ?? "GET", headers, body, signal: sent.signal, credentials: "omit" });
  } catch (error) {
    if (sent.signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", "The server does not answer. It may be restarting, or the network is down.");
  }
  if (!answer.ok) throw await failure(answer);
  return answer;
}

/** The JSON of a call. Throws `ApiError`. */
export async function call<T>(path: string, sent: Sent = {}): Promise<T> {
  const answer = await send(path, sent);
  return (answer.status === 204 ? null : await answer.json()) as T;
}

async function failure(answer: Response): Promise<ApiError> {
  try {
    const { error } = await answer.json();
    return new ApiError(answer.status, String(error.code ?? ""), sentence(String(error.message)), error.param ?? null);
  } catch {
    return new ApiError(answer.status, "", `The server answered ${answer.status}.`);
  }
}

/** The server's messages begin in lower case and end without a point. */
export function sentence(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

export const enc = encodeURIComponent;
