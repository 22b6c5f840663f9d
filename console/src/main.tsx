// The console: a page for each thing that an operator does, and one gate in front of all of them.

import "./style.css";
import { render } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import { ApiError, call, keyring } from "./api";
import { Audit } from "./audit";
import { Compare } from "./compare";
import { Experiments } from "./experiments";
import { ExperimentPage } from "./experiment";
import { FlaggedPage } from "./flagged";
import { Gate } from "./gate";
import { useHash } from "./hooks";
import { Jobs } from "./jobs";
import { MaskPage } from "./mask";
import { Masks } from "./masks";
import { NewExperiment } from "./create";
import { Playground } from "./playground";
import { RouteBar } from "./route";
import { SessionContext, whyNot } from "./session";
import { Traffic } from "./traffic";
import type { Overview } from "./types";
import { Badge, Empty, Notice, Page } from "./ui";

const PAGES = [
  ["experiments", "Experiments"], ["playground", "Playground"], ["masks", "Masks"], ["traffic", "Traffic"],
  ["flagged", "Flagged"], ["jobs", "Jobs"], ["audit", "Audit"],
] as const;

function App() {
  const [overview, setOverview] = useState<Overview | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [lost, setLost] = useState("");
  const [asking, setAsking] = useState(Boolean(keyring.get()));

  const refresh = useCallback(async () => {
    try {
      setOverview(await call<Overview>("/overview"));
      setLost("");
    } catch (failed) {
      if (failed instanceof ApiError && failed.status === 401) {
        setError(failed);
        setOverview(null);
      } else setLost(failed instanceof Error ? failed.message : String(failed));
    }
    setAsking(false);
  }, []);

  useEffect(() => {
    if (keyring.get()) void refresh();
  }, [refresh]);

  const inside = overview !== null;
  useEffect(() => {
    if (!inside) return;
    const timer = setInterval(() => document.visibilityState === "visible" && void refresh(), 5000);
    return () => clearInterval(timer);
  }, [inside, refresh]);

  const leave = () => {
    keyring.set("");
    setError(null);
    setOverview(null);
  };
  if (asking) return <p class="loading" role="status">Loading…</p>;
  if (!overview) {
    return <Gate refused={error?.message ?? lost} onOpen={(found) => (setError(null), setLost(""), setOverview(found))} />;
  }
  return (
    <SessionContext.Provider value={{ overview, refresh, leave }}>
      <Frame lost={lost} overview={overview} leave={leave} />
    </SessionContext.Provider>
  );
}

function Frame({ overview, lost, leave }: { overview: Overview; lost: string; leave: () => void }) {
  const { path } = useHash();
  const here = path[0] ?? "experiments";
  const why = whyNot(overview);
  useEffect(() => {
    document.getElementById("content")?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [path.join("/")]);
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => (event.preventDefault(), document.getElementById("content")?.focus())}>
        Skip to content
      </a>
      <header class="top">
        <a class="brand" href="#/experiments"><img src="console/icon.svg" alt="" width="28" height="28" />Excise</a>
        <nav aria-label="Pages">
          {PAGES.map(([name, title]) => (
            <a href={`#/${name}`} aria-current={here === name ? "page" : undefined}>{title}</a>
          ))}
        </nav>
        <div class="who">
          <Badge kind={overview.key === "admin" ? "strong" : ""}>{overview.key === "none" ? "no key" : `${overview.key} key`}</Badge>
          <button type="button" class="link" onClick={leave}>{overview.key === "none" ? "Give a key" : "Leave"}</button>
        </div>
      </header>
      <RouteBar />
      <main id="content" tabIndex={-1}>
        {lost && <div class="lost"><Notice kind="bad" title="The connection is lost.">{lost}</Notice></div>}
        {why && <Notice>{why}</Notice>}
        <Body path={path} />
      </main>
    </>
  );
}

function Body({ path }: { path: string[] }) {
  const [page, first, second] = path;
  if (!page || (page === "experiments" && !first)) return <Experiments />;
  if (page === "experiments" && first === "new" && !second) return <NewExperiment />;
  if (page === "experiments" && first) return <ExperimentPage key={first} name={first} />;
  if (page === "playground") return <Playground />;
  if (page === "masks" && first && second) return <MaskPage key={`${first}@${second}`} name={first} version={Number(second)} />;
  if (page === "masks") return <Masks />;
  if (page === "compare") return <Compare />;
  if (page === "traffic") return <Traffic />;
  if (page === "flagged") return <FlaggedPage />;
  if (page === "jobs") return <Jobs />;
  if (page === "audit") return <Audit />;
  return (
    <Page title="No such page">
      <Empty title="There is nothing here."><a href="#/experiments">To the experiments</a></Empty>
    </Page>
  );
}

render(<App />, document.getElementById("app")!);
