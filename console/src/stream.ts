// A chat answered token by token, as the OpenAI API streams it.

import { send } from "./api";

export interface Ask {
  model: string; messages: { role: string; content: string }[]; max_tokens: number; temperature: number; seed?: number;
}

export interface Token { text: string; logprob: number | null }

export interface Head { mask: string; digest: string }

/** Ask, and hear of each token as it comes. Returns why it ended. Throws `ApiError`, and what an abort throws. */
export async function chat(ask: Ask, signal: AbortSignal, onHead: (head: Head) => void, onTokens: (tokens: Token[]) => void): Promise<string> {
  const answer = await send("/v1/chat/completions", { method: "POST", json: { ...ask, stream: true, logprobs: true }, signal });
  onHead({ mask: answer.headers.get("x-excise-mask") ?? "?", digest: answer.headers.get("x-excise-digest") ?? "" });
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let finish = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return finish || "ended early";
    const lines = (rest + value).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      if (!line.startsWith("data:") || line.includes("[DONE]")) continue;
      const event = JSON.parse(line.slice(5));
      if (event.error) throw new Error(event.error.message);
      const choice = event.choices?.[0];
      if (!choice) continue;
      const found = tokens(choice);
      if (found.length) onTokens(found);
      finish = choice.finish_reason ?? finish;
    }
  }
}

/** The tokens of a piece: by their log-probabilities where the server sends them, else the text as it is. */
function tokens(choice: { delta?: { content?: string }; logprobs?: { content?: { token: string; logprob: number }[] } | null }): Token[] {
  const text = choice.delta?.content ?? "";
  const content = choice.logprobs?.content ?? [];
  if (content.length && content.map((each) => each.token).join("") === text) {
    return content.map((each) => ({ text: each.token, logprob: each.logprob }));
  }
  return text ? [{ text, logprob: null }] : [];
}
