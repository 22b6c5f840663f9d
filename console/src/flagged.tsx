// Flagged responses: a person says whether each is what the scorer took it for.

import { useState } from "preact/hooks";
import { call } from "./api";
import { plural, when } from "./format";
import { useLoad } from "./hooks";
import { useSession } from "./session";
import type { Flagged, Label, List } from "./types";
import { Act, Badge, Button, Dialog, Empty, Load, Notice, Page } from "./ui";

const LABELS: [Label, string][] = [["confirmed", "Rightly flagged"], ["false alarm", "False alarm"], ["unsure", "Hard to say"]];

export function FlaggedPage() {
  const { overview } = useSession();
  if (overview.key !== "admin") {
    return <Page title="Flagged responses"><Empty title="This needs an admin key."><p>Flagged responses hold what users were told, so a reader key does not show them.</p></Empty></Page>;
  }
  return <Review />;
}

function Review() {
  const { overview } = useSession();
  const found = useLoad((signal) => call<List<Flagged>>("/flagged?limit=500", { signal }), "flagged", 10);
  const [only, setOnly] = useState<"open" | "labelled" | "all">("open");
  const [asking, setAsking] = useState(false);
  const [most, setMost] = useState(25);
  return (
    <Page title="Flagged responses" lead="Responses that the scorer found toxic, kept for review. Addresses, numbers and links are replaced; names are not."
      actions={<Act kind="danger" disabled={!found.data?.data.length && "There is nothing to delete."} onClick={() => setAsking(true)}>Delete all</Act>}>
      {!overview.keeps_flagged && <Notice>Nothing is kept: the server was started without <code>--keep-flagged</code>. With <code>--keep-flagged 200</code> the last 200 are.</Notice>}
      <Load of={found}>
        {({ data }) => {
          const shown = data.filter((each) => only === "all" || (only === "open") === (each.label === null));
          return (
            <>
              <div class="actions" role="group" aria-label="Which">
                {([["open", "To review"], ["labelled", "Reviewed"], ["all", "All"]] as const).map(([name, title]) => (
                  <Button pressed={only === name} onClick={() => setOnly(name)}>
                    {title} ({data.filter((each) => name === "all" || (name === "open") === (each.label === null)).length})
                  </Button>
                ))}
              </div>
              {shown.length === 0 ? (
                <Empty title={data.length ? "Nothing left here." : "No response was flagged."}>
                  <p>{data.length ? `${plural(data.length, "response")} in all. Choose another list above.` : "What the scorer finds toxic from now on appears here, if the server keeps it."}</p>
                </Empty>
              ) : (
                <>
                  <Notice kind="warn">These texts may insult or disturb.</Notice>
                  <ul class="flags">{shown.slice(0, most).map((each) => <One key={each.id} of={each} onChange={found.again} />)}</ul>
                  {shown.length > most && <Button onClick={() => setMost(most + 25)}>Show more ({shown.length - most})</Button>}
                </>
              )}
            </>
          );
        }}
      </Load>
      {asking && (
        <Dialog title="Delete all flagged responses?" act="Delete all" danger onClose={() => setAsking(false)}
          onAct={async () => { await call("/flagged", { method: "DELETE" }); await found.again(); }}>
          <p>Their texts and labels are gone for good. What was counted of them stays in reports and charts.</p>
        </Dialog>
      )}
    </Page>
  );
}

function One({ of, onChange }: { of: Flagged; onChange: () => Promise<void> }) {
  const [error, setError] = useState("");
  const say = async (label: Label | null) => {
    setError("");
    try {
      await call(`/flagged/${of.id}`, { method: "PUT", json: { label } });
      await onChange();
    } catch (failed) {
      setError((failed as Error).message);
    }
  };
  return (
    <li class="card flag">
      <p class="meta"><Badge>{of.mask}</Badge> score {of.score.toFixed(2)}, {when(of.at)}{of.experiment && <> in <a href={`#/experiments/${of.experiment}`}>{of.experiment}</a></>}</p>
      <blockquote>{of.text}</blockquote>
      <div class="actions" role="group" aria-label="What is it?">
        {LABELS.map(([label, title]) => <Act pressed={of.label === label} onClick={() => void say(of.label === label ? null : label)}>{title}</Act>)}
      </div>
      {error && <Notice kind="bad">{error}</Notice>}
    </li>
  );
}
