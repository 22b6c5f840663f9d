// Who is looking: the key, what it may do, and the overview that every page shares.

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Overview } from "./types";

export interface Session {
  overview: Overview;
  /** Ask the server again: after every change, so that no page shows what was. */
  refresh: () => Promise<void>;
  leave: () => void;
}

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  return useContext(SessionContext)!;
}

/** Why nothing can be changed with this key; empty where it can. */
export function whyNot(overview: Overview): string {
  if (overview.key === "admin") return "";
  if (!overview.changes) return "This server was started without an admin key, so nothing can be changed here.";
  return overview.key === "reader"
    ? "You are here with a reader key: it sees, and changes nothing. An admin key does."
    : "You are here without a key: that sees, and changes nothing. An admin key does.";
}
