// The playground: one prompt, answered by the base and by up to three masks beside each other.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ApiError, call } from "./api";
import { Choose } from "./create";
import { differs } from "./diff";
import { plural } from "./format";
import { useHash, useLoad } from "./hooks";
import { useSession } from "./session";
import { chat, type Head, type Token } from "./stream";
import { targets } from "./targets";
import type { List, Mask } from "./types";
import { Badge, Button, Card, Field, Load, Notice, Page, Warnings } from "./ui";

const MOST = 3;

interface Answer { tokens: Token[]; head: Head | null; finish: string; error: string; seconds: number }
const NOTHING: Answer = { tokens: [], head: null, finish: "", error: "", seconds: 0 };

export function Playground() {
  const masks = useLoad((signal) => call<List<Mask>>("/masks?limit=1000", { signal }), "masks");
  return (
    <Page title="Playground" lead="The same prompt, answered by the base model and by masks. Only you see the answers: they belong to no experiment.">
      <Load of={masks}>{(found) => <Desk masks={found.data} />}</Load>
    </Page>
  );
}

function Desk({ masks }: { masks: Mask[] }) {
  const { overview } = useSession();
  const { query } = useHash();
  const labels = targets(masks);
  const first = query.get("mask");
  const [chosen, setChosen] = useState<string[]>(first && labels.includes(first) ? [first] : labels.slice(-1));
  const [prompt, setPrompt] = useState("");
  const [system, setSystem] = useState("");
  const [most, setMost] = useState(80);
  const [temperature, setTemperature] = useState(0);
  const [answers, setAnswers] = useState<Record<string, Answer>>({});
  const [busy, setBusy] = useState(false);
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);

  const put = (label: string, change: (before: Answer) => Partial<Answer>) =>
    setAnswers((all) => ({ ...all, [label]: { ...all[label]!, ...change(all[label]!) } }));

  const one = async (label: string, signal: AbortSignal) => {
    const began = performance.now();
    const messages = [...(system.trim() ? [{ role: "system", content: system }] : []), { role: "user", content: prompt }];
    try {
      const finish = await chat(
        { model: `${overview.model}:${label}`, messages, max_tokens: most, temperature, seed: 1 }, signal,
        (head) => put(label, () => ({ head })), (tokens) => put(label, (before) => ({ tokens: [...before.tokens, ...tokens] })),
      );
      put(label, () => ({ finish, seconds: (performance.now() - began) / 1000 }));
    } catch (error) {
      put(label, () => (signal.aborted ? { finish: "stopped" } : { error: error instanceof ApiError || error instanceof Error ? error.message : String(error) }));
    }
  };

  const ask = async () => {
    running.current?.abort();
    const own = (running.current = new AbortController());
    const labels = ["base", ...chosen];
    setAnswers(Object.fromEntries(labels.map((label) => [label, NOTHING])));
    setBusy(true);
    await Promise.all(labels.map((label) => one(label, own.signal)));
    if (running.current === own) setBusy(false);
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && prompt.trim()) void ask();
  };
  const add = labels.find((label) => !chosen.includes(label));
  const warned = masks.filter((each) => chosen.includes(`${each.name}@${each.version}`));
  const base = useMemo(() => answers.base?.tokens.map((each) => each.text) ?? [], [answers.base]);

  return (
    <>
      <Card>
        <form noValidate onSubmit={(event) => (event.preventDefault(), prompt.trim() && void ask())}>
          <Field label="Prompt" hint="Ctrl + Enter asks.">
            {(id, hint) => <textarea id={id} aria-describedby={hint} rows={3} value={prompt} onInput={(event) => setPrompt(event.currentTarget.value)} onKeyDown={keys} placeholder="You got that wrong." />}
          </Field>
          <div class="chosen">
            <span class="label">Compared with the base</span>
            {chosen.map((label, place) => (
              <span class="pick">
                <label class="hidden" for={`mask-${place}`}>Mask {place + 1}</label>
                <Choose id={`mask-${place}`} of={labels} value={label} onChange={(mask) => setChosen(chosen.map((each, at) => (at === place ? mask : each)))} />
                <Button label={`Remove ${label}`} onClick={() => setChosen(chosen.filter((_, at) => at !== place))}>×</Button>
              </span>
            ))}
            {chosen.length < MOST && add && <Button onClick={() => setChosen([...chosen, add])}>Add a mask</Button>}
            {!labels.length && <span class="muted">There is no mask yet. <a href="#/masks">Upload one</a></span>}
          </div>
          <details>
            <summary>Settings</summary>
            <div class="fields">
              <Field label="System prompt">{(id) => <textarea id={id} rows={2} value={system} onInput={(event) => setSystem(event.currentTarget.value)} />}</Field>
              <Field label="Most tokens">{(id) => <input id={id} type="number" min={1} max={4096} value={most} onInput={(event) => setMost(event.currentTarget.valueAsNumber || 1)} />}</Field>
              <Field label="Temperature" hint="0: always the likeliest token, so that what differs is the mask's doing.">
                {(id, hint) => <input id={id} aria-describedby={hint} type="number" min={0} max={2} step={0.1} value={temperature} onInput={(event) => setTemperature(event.currentTarget.valueAsNumber || 0)} />}
              </Field>
            </div>
          </details>
          <div class="actions">
            <Button kind="primary" submit disabled={!prompt.trim() && "Write a prompt first."}>Ask</Button>
            {busy && <Button onClick={() => running.current?.abort()}>Stop</Button>}
          </div>
        </form>
      </Card>
      {warned.map((each) => <Warnings of={each.warnings} title={`${each.name}@${each.version} warns:`} />)}
      {Object.keys(answers).length > 0 && (
        <>
          <p class="hint"><mark>Marked</mark> tokens are not in the base's answer, in that order.</p>
          <div class="columns" aria-busy={busy}>
            {Object.entries(answers).map(([label, answer]) => <Column label={label} answer={answer} base={label === "base" ? null : base} />)}
          </div>
        </>
      )}
    </>
  );
}

function Column({ label, answer, base }: { label: string; answer: Answer; base: string[] | null }) {
  const texts = answer.tokens.map((each) => each.text);
  const marked = useMemo(() => (base ? differs(base, texts) : texts.map(() => false)), [base, answer.tokens]);
  const changed = marked.filter(Boolean).length;
  const distinct = new Set(texts).size;
  const done = Boolean(answer.finish || answer.error);
  return (
    <section class="card answer" aria-label={`Answer of ${label}`}>
      <h2>{label === "base" ? "base, uncorrected" : label}</h2>
      <p class="said">
        {answer.tokens.map((token, place) => {
          const title = token.logprob === null ? undefined : `probability ${(100 * Math.exp(token.logprob)).toFixed(0)}%`;
          return marked[place] ? <mark title={title}>{token.text}</mark> : <span title={title}>{token.text}</span>;
        })}
        {!done && <span class="cursor" aria-hidden="true" />}
      </p>
      {answer.error && <Notice kind="bad">{answer.error}</Notice>}
      <p class="meta" role="status">
        {done && !answer.error && (
          <>
            {plural(texts.length, "token")}
            {base && (changed ? `, ${changed} of them not the base's` : ", the same as the base's")}
            {answer.seconds > 0 && ` in ${answer.seconds.toFixed(1)} s`}
            {answer.finish === "length" && <Badge kind="warn">cut off at the limit</Badge>}
            {answer.finish === "stopped" && <Badge>stopped</Badge>}
            {texts.length > 9 && distinct / texts.length < 0.5 && <Badge kind="warn">repetitive</Badge>}
          </>
        )}
        {!done && (answer.tokens.length ? "Answering…" : "Waiting…")}
      </p>
      {answer.head && answer.head.mask !== label && <Notice kind="warn">Answered by {answer.head.mask}.</Notice>}
    </section>
  );
}
