// The gate: asks for a key, and says plainly what is wrong with one.

import { useEffect, useState } from "preact/hooks";
import { ApiError, call, keyring } from "./api";
import type { Overview } from "./types";
import { Button, Field, Notice } from "./ui";

export function Gate({ refused, onOpen }: { refused: string; onOpen: (overview: Overview) => void }) {
  const [key, setKey] = useState("");
  const [error, setError] = useState(refused);
  const [open, setOpen] = useState<Overview | null>(null);
  const [busy, setBusy] = useState(false);

  useEffect(() => {
    document.title = "Excise";
    keyring.set("");
    call<Overview>("/overview").then(setOpen, () => setOpen(null)); // where reading needs no key, one may look around
  }, []);

  const enter = async () => {
    const given = key.trim();
    if (!/^[!-~]+$/.test(given)) {
      setError(given ? "A key has only visible ASCII characters, and no spaces." : "Type or paste a key first.");
      return;
    }
    setBusy(true);
    keyring.set(given);
    try {
      const found = await call<Overview>("/overview");
      if (found.key !== "none") return onOpen(found);
      throw new ApiError(401, "invalid_api_key", "This server does not know that key.");
    } catch (failed) {
      keyring.set("");
      const known = failed instanceof ApiError;
      setError(known && failed.status === 401 ? "This server does not know that key. Check it, or ask who runs the server." : (failed as Error).message);
      setBusy(false);
    }
  };

  return (
    <main class="gate">
      <img src="console/icon.svg" alt="" width="48" height="48" />
      <h1>Excise</h1>
      <p class="lead">Compare masks with the base model, put one before some of the users, read the verdict, take it back.</p>
      <form noValidate class="card" onSubmit={(event) => (event.preventDefault(), void enter())}>
        <Field label="Key" hint="An admin key changes things, a reader key only looks. It is kept in this tab until you close it.">
          {(id, described) => (
            <input id={id} type="password" autocomplete="off" spellcheck={false} autofocus value={key}
              aria-describedby={described} onInput={(event) => setKey(event.currentTarget.value)} />
          )}
        </Field>
        {error && <Notice kind="bad">{error}</Notice>}
        <div class="actions">
          <Button kind="primary" submit disabled={busy}>{busy ? "Opening…" : "Open"}</Button>
          {open && <Button onClick={() => onOpen(open)}>Look without a key</Button>}
        </div>
      </form>
    </main>
  );
}
