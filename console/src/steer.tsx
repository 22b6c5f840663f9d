// What can be done to a running experiment. Each says what will happen before it does.

import { useState } from "preact/hooks";
import { call, enc } from "./api";
import type { Experiment, Report } from "./types";
import { Dialog, Field, Notice } from "./ui";

/** Of every dialog that changes something. */
export type Steer = { onClose: () => void; onDone: () => Promise<void> };

/** Stop for good: with a winner, or back to the control. */
export function End({ report, winner, routed, onClose, onDone }: { report: Report; winner?: string; routed: boolean } & Steer) {
  const [choice, setChoice] = useState(winner ?? report.control);
  const mask = report.variants.find((each) => each.name === choice)!;
  const back = choice === report.control;
  const act = async () => {
    await call(`/experiments/${enc(report.experiment)}/stop`, { method: "POST", json: back ? {} : { winner: choice } });
    await onDone();
  };
  const decided = report.comparisons.find((each) => each.variant === choice)?.decision;
  return (
    <Dialog title={back ? "Stop and roll back?" : `Stop, and give everybody ${choice}?`} act={back ? "Stop and roll back" : `Make ${choice} the winner`} danger={back} onAct={act} onClose={onClose}>
      <Field label="From now on everybody gets">
        {(id) => (
          <select id={id} value={choice} onChange={(event) => setChoice(event.currentTarget.value)}>
            {report.variants.map((each) => (
              <option value={each.name}>{each.name} ({each.mask}){each.name === report.control ? ", as before the experiment" : ""}</option>
            ))}
          </select>
        )}
      </Field>
      <p>
        The experiment ends for good; its report stays.{" "}
        {routed ? <>The default route goes to <strong>{mask.mask}</strong> for the next request on. </> : "It gets no traffic now, so nobody notices. "}
        You can roll the route back afterwards.
      </p>
      {!back && decided !== "better" && <Notice kind="warn">The evidence does not say that {choice} is better: the verdict is “{decided}”.</Notice>}
      {!back && mask.warnings.length > 0 && <Notice kind="warn">{mask.warnings.join(" ")}</Notice>}
    </Dialog>
  );
}

export function Pause({ name, resume, control, onClose, onDone }: { name: string; resume: boolean; control: string } & Steer) {
  const act = async () => {
    const { revision } = await call<Experiment>(`/experiments/${enc(name)}`);
    await call(`/experiments/${enc(name)}`, { method: "PATCH", json: { revision, status: resume ? "running" : "paused" } });
    await onDone();
  };
  return (
    <Dialog title={resume ? "Resume?" : "Pause?"} act={resume ? "Resume" : "Pause"} onAct={act} onClose={onClose}>
      <p>{resume ? "Users get their variants again, the same ones as before, and are counted." : <>While it is paused everybody gets <strong>{control}</strong>, and nobody is counted. You can resume it at any time.</>}</p>
    </Dialog>
  );
}

export function Traffic({ name, onClose, onDone }: { name: string } & Steer) {
  const act = async () => {
    await call("/route", { method: "PUT", json: { target: `experiment:${name}` } });
    await onDone();
  };
  return (
    <Dialog title="Send the default traffic here?" act="Send traffic here" onAct={act} onClose={onClose}>
      <p>Every request that names no mask takes part from the next one on, in the shares that the experiment sets. Stopping it, or rolling the route back, ends that.</p>
    </Dialog>
  );
}
