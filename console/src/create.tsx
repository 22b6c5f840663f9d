// A new experiment: a form that explains itself, and says in the end what will happen, in words.

import { useState } from "preact/hooks";
import { ApiError, call } from "./api";
import { useHash, useLoad } from "./hooks";
import { METRICS } from "./format";
import { body, problems, RAILS, RAMPS, type Draft, UNITS, words } from "./draft";
import { useSession } from "./session";
import { targets } from "./targets";
import type { List, Mask } from "./types";
import { Act, Button, Card, Field, Load, Notice, Page, Warnings } from "./ui";

export function NewExperiment() {
  const masks = useLoad((signal) => call<List<Mask>>("/masks?limit=1000", { signal }), "masks");
  return (
    <Page title="New experiment" lead="Two answers are compared on real traffic: what users get now, and a mask. Nothing changes for anybody until you press Start.">
      <Load of={masks}>{(found) => (found.data.length ? <Form masks={found.data} /> : (
        <Notice>There is no mask to try yet. <a href="#/masks">Upload one first</a>.</Notice>
      ))}</Load>
    </Page>
  );
}

function Form({ masks }: { masks: Mask[] }) {
  const { query } = useHash();
  const { overview, refresh } = useSession();
  const labels = targets(masks);
  const wanted = query.get("mask") ?? labels.at(-1)!;
  const [draft, setDraft] = useState<Draft>({
    name: `${wanted.replace("@", "-v")}-canary`, masks: [wanted], control: "base", metric: "toxicity", margin: 1, unit: "user",
    plan: "careful", share: 50, rails: { ...(overview.judges ? { coherence: 0.5 } : {}), ...(overview.scores ? { repetition: 2 } : {}), latency_p95: 20 }, steps: RAMPS.careful!.steps, route: true,
  });
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const set = (change: Partial<Draft>) => setDraft((before) => ({ ...before, ...change }));
  const wrong = problems(draft, overview);
  const warned = masks.filter((each) => draft.masks.includes(`${each.name}@${each.version}`) && each.warnings.length);

  const start = async () => {
    setBusy(true);
    setError(null);
    try {
      await call("/experiments", { method: "POST", json: body(draft) });
      await refresh();
      if (draft.route) await call("/route", { method: "PUT", json: { target: `experiment:${draft.name}` } });
      await refresh();
      location.hash = `#/experiments/${draft.name}`;
    } catch (failed) {
      setError(failed instanceof ApiError ? failed : new ApiError(0, "", String(failed)));
      setBusy(false);
    }
  };

  return (
    <form noValidate onSubmit={(event) => (event.preventDefault(), void start())}>
      <Card title="1. What is compared">
        <div class="fields">
          <Field label="Mask to try" hint="What some of the users will get. The version is fixed from now on.">
            {(id, hint) => <Choose id={id} hint={hint} of={labels} value={draft.masks[0]!} onChange={(mask) => set({ masks: [mask, ...draft.masks.slice(1)] })} />}
          </Field>
          <Field label="Compared with" hint="The control: what everybody else gets, and what everybody gets back if it goes wrong.">
            {(id, hint) => <Choose id={id} hint={hint} of={["base", ...labels]} value={draft.control} onChange={(control) => set({ control })} />}
          </Field>
          {draft.masks.length > 1 && (
            <Field label="A second mask to try" hint="Each mask is compared with the control, not with the other.">
              {(id, hint) => <Choose id={id} hint={hint} of={labels} value={draft.masks[1]!} onChange={(mask) => set({ masks: [draft.masks[0]!, mask] })} />}
            </Field>
          )}
        </div>
        {labels.length > 1 && <Button onClick={() => set({ masks: draft.masks.length > 1 ? draft.masks.slice(0, 1) : [...draft.masks, labels.find((each) => !draft.masks.includes(each))!], steps: draft.steps })}>
          {draft.masks.length > 1 ? "Try one mask only" : "Try a second mask as well"}
        </Button>}
        {warned.map((each) => <Warnings of={each.warnings} title={`${each.name}@${each.version} warns:`} />)}
      </Card>
      <Card title="2. What decides">
        <div class="fields">
          <Field label="The mask should bring" hint="The verdict is about this alone. Everything else can be guarded below.">
            {(id, hint) => (
              <select id={id} aria-describedby={hint} value={draft.metric} onChange={(event) => set({ metric: event.currentTarget.value as Draft["metric"] })}>
                {(["toxicity", "repetition", "refusal", "error"] as const).map((each) => <option value={each}>fewer {METRICS[each]}</option>)}
                <option value="feedback">better users' feedback</option>
              </select>
            )}
          </Field>
          <Field label={draft.metric === "feedback" ? "Smallest difference that matters (of −1 to 1)" : "Smallest difference that matters (percentage points)"}
            hint={draft.metric === "feedback" ? "The scale goes from −1 to 1." : `1 point: 5% against 4%. A smaller one takes many more users to see.`}>
            {(id, hint) => <Num id={id} hint={hint} value={draft.margin} step={draft.metric === "feedback" ? 0.05 : 0.5} onChange={(margin) => set({ margin })} />}
          </Field>
          <Field label="Who is given a variant" hint={UNITS[draft.unit]}>
            {(id, hint) => (
              <select id={id} aria-describedby={hint} value={draft.unit} onChange={(event) => set({ unit: event.currentTarget.value as Draft["unit"] })}>
                <option value="user">each user, and keeps it</option>
                <option value="request">each request, drawn anew</option>
              </select>
            )}
          </Field>
        </div>
      </Card>
      <Plan draft={draft} set={set} />
      <Rails draft={draft} set={set} />
      <Card title="5. Name and start" class="start">
        <Field label="Name" hint="Small letters, digits, dots and dashes. It can be used only once.">
          {(id, hint) => <input id={id} aria-describedby={hint} value={draft.name} spellcheck={false} autocomplete="off" onInput={(event) => set({ name: event.currentTarget.value })} />}
        </Field>
        <label class="check">
          <input type="checkbox" checked={draft.route} onChange={(event) => set({ route: event.currentTarget.checked })} />
          Send the default traffic here at once
        </label>
        <div class="say" aria-live="polite">
          <h3>What will happen</h3>
          <ul>{words(draft).map((each) => <li>{each}</li>)}</ul>
        </div>
        {wrong.length > 0 && <Notice kind="warn"><ul>{wrong.map((each) => <li>{each}</li>)}</ul></Notice>}
        {error && <Notice kind="bad" title={error.param ? `Not taken (${error.param}).` : "Not taken."}>{error.message}</Notice>}
        <div class="actions">
          <Act kind="primary" submit disabled={busy || (wrong.length > 0 && wrong.join(" "))}>{busy ? "Starting…" : "Start the experiment"}</Act>
          <a class="button" href="#/experiments">Cancel</a>
        </div>
        <details><summary>The call that this makes</summary><pre tabIndex={0}>POST /experiments{"\n"}{JSON.stringify(body(draft), null, 2)}</pre></details>
      </Card>
    </form>
  );
}

export function Choose({ id, hint, of, value, onChange }: { id: string; hint?: string; of: string[]; value: string; onChange: (value: string) => void }) {
  return (
    <select id={id} aria-describedby={hint} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
      {of.map((each) => <option value={each}>{each === "base" ? "base (uncorrected)" : each}</option>)}
    </select>
  );
}

function Num({ id, hint, value, step, onChange, min = 0, max }: { id?: string; hint?: string; value: number; step: number; onChange: (value: number) => void; min?: number; max?: number }) {
  return <input id={id} aria-describedby={hint} type="number" inputmode="decimal" min={min} max={max} step={step} value={value} onInput={(event) => onChange(event.currentTarget.valueAsNumber)} />;
}

function Plan({ draft, set }: { draft: Draft; set: (change: Partial<Draft>) => void }) {
  return (
    <Card title="3. How many users">
      <fieldset class="options">
        <legend class="hidden">How many users</legend>
        {Object.entries(RAMPS).map(([name, { title, why, steps }]) => (
          <label class="option">
            <input type="radio" name="plan" checked={draft.plan === name} onChange={() => set({ plan: name as Draft["plan"], steps })} />
            <span><strong>{title}</strong><span class="hint">{why}</span></span>
          </label>
        ))}
      </fieldset>
      {(draft.plan === "split" || draft.plan === "mirror") && (
        <Field label={draft.plan === "split" ? "Share that tries the mask (%)" : "Share of the requests that are copied (%)"}>
          {(id) => <Num id={id} value={draft.share} step={1} min={0.1} max={draft.plan === "split" ? 99 : 100} onChange={(share) => set({ share })} />}
        </Field>
      )}
      {draft.steps.length > 0 && (draft.plan === "careful" || draft.plan === "quick") && (
        <>
          <ol class="steps">
            {draft.steps.map((step, place) => {
              const change = (part: Partial<typeof step>) => set({ steps: draft.steps.map((each, at) => (at === place ? { ...each, ...part } : each)) });
              return (
                <li>
                  <label>Share, %<Num value={step.share} step={1} min={0.01} max={100} onChange={(share) => change({ share })} /></label>
                  {step.share < 100 ? (
                    <>
                      <label>at least, minutes<Num value={step.minutes} step={10} onChange={(minutes) => change({ minutes })} /></label>
                      <label>and responses of each<Num value={step.responses} step={100} onChange={(responses) => change({ responses })} /></label>
                    </>
                  ) : <span class="hint">everybody: the mask has won and the experiment ends</span>}
                  <Button label={`Remove step ${place + 1}`} onClick={() => set({ steps: draft.steps.filter((_, at) => at !== place) })}>Remove</Button>
                </li>
              );
            })}
          </ol>
          <Button onClick={() => set({ steps: [...draft.steps, { share: 50, minutes: 60, responses: 1000 }].sort((a, b) => a.share - b.share) })}>Add a step</Button>
        </>
      )}
    </Card>
  );
}

function Rails({ draft, set }: { draft: Draft; set: (change: Partial<Draft>) => void }) {
  const { overview } = useSession();
  return (
    <Card title="4. Guardrails">
      <p class="hint">If the evidence says that one is crossed, the experiment stops by itself and everybody is given the control again.</p>
      <ul class="guards">
        {Object.entries(RAILS).map(([metric, rail]) => {
          const on = metric in draft.rails;
          const unknown = metric === "coherence" ? !overview.judges : rail.scored && !overview.scores;
          const toggle = () => {
            const { [metric]: _, ...rest } = draft.rails;
            set({ rails: on ? rest : { ...draft.rails, [metric]: rail.margin } });
          };
          return (
            <li>
              <label class="check">
                <input type="checkbox" checked={on} disabled={unknown || metric === "coherence"} onChange={toggle} />
                <span>{rail.title}{unknown && <span class="hint"> (this server does not measure it)</span>}{metric === "coherence" && !unknown && <span class="hint"> (always there)</span>}</span>
              </label>
              {on && (
                <label class="margin">by more than <Num value={draft.rails[metric]!} step={rail.step} onChange={(margin) => set({ rails: { ...draft.rails, [metric]: margin } })} /> {rail.unit}</label>
              )}
            </li>
          );
        })}
      </ul>
    </Card>
  );
}
