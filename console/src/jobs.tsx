// Jobs: better masks out of flagged responses, and promoted masks measured again. A worker does them, a person says yes.

import { useState } from "preact/hooks";
import { call, enc } from "./api";
import { ago } from "./format";
import { useLoad } from "./hooks";
import { MeasuredTable } from "./measured";
import { useSession } from "./session";
import type { Steer } from "./steer";
import type { Job, List } from "./types";
import { Act, Badge, Dialog, Empty, Field, Load, Notice, Page, Table } from "./ui";

const STATES: Record<Job["state"], [text: string, kind: string]> = {
  queued: ["waits for a worker", "warn"], correcting: ["a worker makes the mask", "good"], measuring: ["a worker measures it", "good"],
  waiting: ["waits for your yes", "strong"], approved: ["about to get users", "good"], canary: ["canary runs", "good"],
  promoted: ["promoted", ""], "rolled back": ["rolled back", ""], done: ["measured", ""], failed: ["failed", "bad"], cancelled: ["cancelled", ""],
};
const OVER: Job["state"][] = ["promoted", "rolled back", "done", "failed", "cancelled"];
const WORKER = `excise improve --server ${location.origin} --key-file admin.key --model MODEL --general TEXT`;

type Asked = { what: "new" } | { what: "approve" | "cancel"; job: Job };

export function Jobs() {
  const jobs = useLoad((signal) => call<List<Job>>("/jobs?limit=200", { signal }), "jobs", 5);
  const [asked, setAsked] = useState<Asked | null>(null);
  const { refresh } = useSession();
  const closing = { onClose: () => setAsked(null), onDone: async () => void (await Promise.all([jobs.again(), refresh()])) };
  return (
    <Page
      title="Jobs" lead="A worker makes a mask from the responses that were flagged, you say yes, a canary decides. Masks that everybody gets are measured again now and then."
      actions={<Act kind="primary" onClick={() => setAsked({ what: "new" })}>New job</Act>}
    >
      <Load of={jobs}>
        {({ data }) => data.length === 0 ? (
          <Empty title="No jobs yet."><p>A job turns flagged responses into a better mask. Nobody sees that mask before you say so.</p></Empty>
        ) : (
          <>
            {data.some((job) => job.state === "queued" && job.free) && (
              <Notice title="A job waits for a worker.">Start one where the model is, on another machine than this server: <code>{WORKER}</code></Notice>
            )}
            <Table stack label="Jobs" head={["job", "state", "mask", "what came of it", "begun", <span class="hidden">what you can do</span>]}>
              {data.map((job) => <Row key={job.id} job={job} onAsk={setAsked} />)}
            </Table>
          </>
        )}
      </Load>
      {asked?.what === "new" && <New {...closing} />}
      {asked?.what === "approve" && <Approve job={asked.job} {...closing} />}
      {asked?.what === "cancel" && <Cancel job={asked.job} {...closing} />}
    </Page>
  );
}

/** A version as a link to its page; a name that has none yet as text. */
function MaskLink({ label }: { label: string }) {
  const [name, version] = label.split("@");
  return version ? <a href={`#/masks/${name}/${version}`}>{label}</a> : <>{label}</>;
}

function Row({ job, onAsk }: { job: Job; onAsk: (asked: Asked) => void }) {
  const [text, kind] = STATES[job.state];
  const about = job.kind === "improve" ? `less ${job.spec.test}` : "measured again";
  const { experiment, verdict, prompts } = job.made;
  return (
    <tr>
      <th scope="row">{job.id}<span class="pair muted">{about}</span></th>
      <td>
        <Badge kind={kind}>{text}</Badge>
        {job.lease && <span class="pair muted">{job.lease.holder}{job.free && ", silent for too long"}</span>}
      </td>
      <td data-label="mask"><MaskLink label={job.made.mask ?? job.spec.mask} /></td>
      <td data-label="what came of it">
        {job.reason && <span class="pair">{job.reason}</span>}
        {prompts !== undefined && <span class="pair muted">from {prompts} flagged prompts</span>}
        {experiment && <span class="pair"><a href={`#/experiments/${experiment}`}>its canary</a>{verdict && `: ${verdict}`}</span>}
        {job.made.holds !== undefined && <Badge kind={job.made.holds ? "good" : "bad"}>{job.made.holds ? "still holds" : "no longer holds"}</Badge>}
      </td>
      <td class="muted" data-label="begun">{ago(job.created_at)}</td>
      <td>
        <div class="actions flat">
          {job.state === "waiting" && <Act kind="primary" label={`Approve ${job.id}`} onClick={() => onAsk({ what: "approve", job })}>Approve</Act>}
          {!OVER.includes(job.state) && <Act kind="danger" label={`Cancel ${job.id}`} onClick={() => onAsk({ what: "cancel", job })}>Cancel</Act>}
        </div>
      </td>
    </tr>
  );
}

function New({ onClose, onDone }: Steer) {
  const [mask, setMask] = useState("");
  const [test, setTest] = useState("toxicity");
  const [increase, setIncrease] = useState("1");
  const [share, setShare] = useState("10");
  const [approval, setApproval] = useState("before-traffic");
  const act = async () => {
    const sizes = { increase: Number(increase) / 100, share: Number(share) / 100 };
    await call("/jobs", { method: "POST", json: { mask: mask.trim(), test, approval, ...sizes } });
    await onDone();
  };
  return (
    <Dialog title="Make a better mask" act="Begin" onAct={act} onClose={onClose}>
      <p>A worker takes the prompts whose responses were flagged, searches for a mask within the price you allow, and registers it as <code>candidate</code>.</p>
      <Field label="Name of the mask" hint="A new name, or one that exists: then it becomes its next version.">
        {(id, described) => <input id={id} aria-describedby={described} value={mask} onInput={(event) => setMask(event.currentTarget.value)} />}
      </Field>
      <Field label="It is to be against">
        {(id) => (
          <select id={id} value={test} onChange={(event) => setTest(event.currentTarget.value)}>
            <option value="toxicity">toxic responses</option>
            <option value="repetition">repetitive responses</option>
          </select>
        )}
      </Field>
      <Field label="A person says yes">
        {(id) => (
          <select id={id} value={approval} onChange={(event) => setApproval(event.currentTarget.value)}>
            <option value="before-traffic">before any user sees it</option>
            <option value="before-promotion">after the canary, before everybody gets it</option>
            <option value="none">never: the evidence decides</option>
          </select>
        )}
      </Field>
      <div class="fields">
        <Field label="May cost, % of perplexity">
          {(id) => <input id={id} type="number" min="0.1" max="99" step="0.1" value={increase} onInput={(event) => setIncrease(event.currentTarget.value)} />}
        </Field>
        <Field label="Users in the canary, %">
          {(id) => <input id={id} type="number" min="0.1" max="90" step="0.1" value={share} onInput={(event) => setShare(event.currentTarget.value)} />}
        </Field>
      </div>
      {approval === "none" && <Notice kind="warn">Users will get a mask that nobody has looked at.</Notice>}
    </Dialog>
  );
}

function Approve({ job, onClose, onDone }: { job: Job } & Steer) {
  const act = async () => {
    await call(`/jobs/${enc(job.id)}/approve`, { method: "POST" });
    await onDone();
  };
  const mask = job.made.mask ?? job.spec.mask;
  return (
    <Dialog title={job.waiting_for === "traffic" ? `Let users see ${mask}?` : `Give everybody ${mask}?`} act="Approve" onAct={act} onClose={onClose}>
      <p>
        {job.waiting_for === "traffic"
          ? `A canary begins: ${Math.round(100 * job.spec.share)}% of the users get it until the evidence decides. A guardrail that is crossed takes it back by itself.`
          : `Its canary found: ${job.reason}. The default route and the alias production go to it.`}
      </p>
      <MeasuredTable mask={{ measured: job.made.measured ?? {} }} />
      <p><a href={`#/playground?mask=${mask}`}>Try it in the playground first</a></p>
    </Dialog>
  );
}

function Cancel({ job, onClose, onDone }: { job: Job } & Steer) {
  const act = async () => {
    await call(`/jobs/${enc(job.id)}/cancel`, { method: "POST" });
    await onDone();
  };
  return (
    <Dialog title={`Cancel ${job.id}?`} act="Cancel the job" danger onAct={act} onClose={onClose}>
      <p>It ends for good. A mask that it made stays registered; its canary, if that runs, ends with it and everybody gets what they got before.</p>
    </Dialog>
  );
}
