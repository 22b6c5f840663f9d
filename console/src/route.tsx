// The default route, on every page: who answers now, and the two ways to change that.

import { useState } from "preact/hooks";
import { call } from "./api";
import { useSession } from "./session";
import { Act, Dialog } from "./ui";

/** A route's target in words. */
export function told(target: string): string {
  if (target.startsWith("experiment:")) return `experiment ${target.slice("experiment:".length)}`;
  return target === "base" ? "the uncorrected model (base)" : `mask ${target}`;
}

export function RouteBar() {
  const { overview, refresh } = useSession();
  const [asking, setAsking] = useState(false);
  const experiment = overview.experiments.find((each) => overview.target === `experiment:${each.name}`);
  const split = experiment?.status === "running"
    ? Object.entries(experiment.share).map(([name, share]) => `${Math.round(1000 * share) / 10}% ${experiment.variants[name]}`).join(", ")
    : experiment && `${experiment.status}: everybody gets ${experiment.variants[experiment.winner ?? experiment.control]}`;
  return (
    <>
      <section class="route" aria-label="Default route">
        <span>
          Who asks for <code>{overview.model}</code> is answered by{" "}
          <strong>{experiment ? <a href={`#/experiments/${experiment.name}`}>{told(overview.target)}</a> : told(overview.target)}</strong>
          {split && <span class="muted"> ({split})</span>}
        </span>
        <Act onClick={() => setAsking(true)} disabled={overview.baked ? "This server was loaded with one mask and serves nothing else." : overview.before === null && "The route led nowhere else before."}>
          {overview.before === null ? "Roll back" : `Roll back to ${overview.before.replace(/^experiment:/, "experiment ")}`}
        </Act>
      </section>
      {asking && (
        <Dialog
          title={`Roll back to ${told(overview.before ?? "base")}?`} act="Roll back" danger onClose={() => setAsking(false)}
          onAct={async () => {
            await call("/route/rollback", { method: "POST" });
            await refresh();
          }}
        >
          <p>
            The default route leads to <strong>{told(overview.target)}</strong> now and will lead to <strong>{told(overview.before ?? "base")}</strong>, where it
            led before: from the next request on, for everybody who does not name a mask. Nothing is lost; masks and experiments
            stay as they are.
          </p>
        </Dialog>
      )}
    </>
  );
}
