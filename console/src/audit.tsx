// The audit: who changed what, and when, in words.

import { useState } from "preact/hooks";
import { ApiError, call } from "./api";
import { ago, when } from "./format";
import { useLoad } from "./hooks";
import { useSession } from "./session";
import type { Change, List } from "./types";
import { Button, Empty, Load, Notice, Page } from "./ui";

const PAGE = 50;

export function Audit() {
  const { overview } = useSession();
  if (overview.key !== "admin") return <Page title="Audit"><Empty title="This needs an admin key."><p>A reader key does not show who changed what.</p></Empty></Page>;
  return <Entries />;
}

function Entries() {
  const newest = useLoad((signal) => call<List<Change>>(`/audit?limit=${PAGE}`, { signal }), "audit", 10);
  const [older, setOlder] = useState<Change[]>([]);
  const [end, setEnd] = useState(false);
  const [error, setError] = useState("");
  const more = async (after: Change) => {
    try {
      const { data } = await call<List<Change>>(`/audit?limit=${PAGE}&before=${after.id}`);
      setOlder([...older, ...data]);
      setEnd(data.length < PAGE);
    } catch (failed) {
      setError(failed instanceof ApiError ? failed.message : String(failed));
    }
  };
  return (
    <Page title="Audit" lead="Who changed what, newest first. A key is named by eight digits that do not give it away; “server” is what happened by itself.">
      <Load of={newest}>
        {({ data }) => {
          const all = [...data, ...older.filter((each) => each.id < (data.at(-1)?.id ?? Infinity))];
          if (!all.length) return <Empty title="Nothing was changed yet." />;
          return (
            <>
              <ol class="audit">{all.map((each) => <Entry key={each.id} of={each} />)}</ol>
              {error && <Notice kind="bad">{error}</Notice>}
              {data.length === PAGE && !end && <Button onClick={() => void more(all.at(-1)!)}>Older</Button>}
            </>
          );
        }}
      </Load>
    </Page>
  );
}

function Entry({ of }: { of: Change }) {
  const simple = (value: unknown) => value === null || ["string", "number"].includes(typeof value);
  const short = simple(of.before) && simple(of.after);
  return (
    <li>
      <p>
        <strong>{of.action}</strong>
        {!of.action.endsWith(of.subject) && ` ${of.subject.replace(/^(alias|flagged) /, "")}`}
        {short && (of.before !== null || of.after !== null) && <span>: {of.before === null ? "" : `${of.before} → `}{of.after === null ? "nothing" : String(of.after)}</span>}
      </p>
      {of.reason && <p class="reason">{of.reason.split("\n").map((line) => <span>{line}<br /></span>)}</p>}
      <p class="meta"><time dateTime={of.at} title={of.at}>{when(of.at)}</time> ({ago(of.at)}), by {of.who}</p>
      {!short && <details><summary>Before and after</summary><pre tabIndex={0}>{JSON.stringify({ before: of.before, after: of.after }, null, 2)}</pre></details>}
    </li>
  );
}
