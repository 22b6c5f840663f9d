// The parts that every page is made of.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";
import type { Loaded } from "./hooks";
import { useSession, whyNot } from "./session";

type Children = { children?: ComponentChildren };

export function Page({ title, lead, actions, children }: { title: string; lead?: ComponentChildren; actions?: ComponentChildren } & Children) {
  useEffect(() => {
    document.title = `${title} – Excise`;
  }, [title]);
  return (
    <>
      <div class="page-head">
        <div>
          <h1>{title}</h1>
          {lead && <p class="lead">{lead}</p>}
        </div>
        {actions && <div class="actions">{actions}</div>}
      </div>
      {children}
    </>
  );
}

export function Card({ title, id, children, ...rest }: { title?: ComponentChildren; id?: string; class?: string } & Children) {
  const own = useId();
  return (
    <section class={`card ${rest.class ?? ""}`} id={id} aria-labelledby={title ? own : undefined}>
      {title && <h2 id={own}>{title}</h2>}
      {children}
    </section>
  );
}

export function Notice({ kind = "info", title, children }: { kind?: "info" | "good" | "warn" | "bad"; title?: string } & Children) {
  return (
    <div class={`notice ${kind}`} role={kind === "bad" ? "alert" : undefined}>
      {title && <strong>{title} </strong>}
      {children}
    </div>
  );
}

export function Badge({ kind = "", children }: { kind?: string } & Children) {
  return <span class={`badge ${kind}`}>{children}</span>;
}

export function Empty({ title, children }: { title: string } & Children) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      <div>{children}</div>
    </div>
  );
}

/** Data, or that they are on their way, or why they are not. An error beside older data says that they are older. */
export function Load<T>({ of, children }: { of: Loaded<T>; children: (data: T) => ComponentChildren }) {
  if (of.data === null && !of.error) return <p class="loading" role="status">Loading…</p>;
  return (
    <>
      {of.error && (
        <Notice kind="bad" title={of.data === null ? "This could not be loaded." : "This is from a moment ago."}>
          {of.error.message}{" "}
          <button type="button" class="link" onClick={() => void of.again()}>Try again</button>
        </Notice>
      )}
      {of.data !== null && children(of.data)}
    </>
  );
}

type ButtonProps = {
  kind?: "primary" | "danger" | "plain"; onClick?: () => void; disabled?: string | boolean; submit?: boolean; pressed?: boolean;
  label?: string;
} & Children;

/** `disabled` says why, to those who hover and to those who listen; such a button can still be reached by keyboard. */
export function Button({ kind = "plain", onClick, disabled, submit, pressed, label, children }: ButtonProps) {
  const why = useId();
  const text = typeof disabled === "string" ? disabled : "";
  const click = (event: MouseEvent) => {
    if (disabled) event.preventDefault();
    else onClick?.();
  };
  return (
    <>
      <button
        type={submit ? "submit" : "button"} class={`button ${kind}`} onClick={click} aria-disabled={disabled ? true : undefined}
        aria-describedby={text ? why : undefined} title={text || undefined} aria-pressed={pressed} aria-label={label}
      >
        {children}
      </button>
      {text && <span id={why} class="hidden">{text}</span>}
    </>
  );
}

/** A button that changes something: only an admin key may, and everybody else is told why not. */
export function Act({ disabled, ...rest }: ButtonProps) {
  const { overview } = useSession();
  return <Button {...rest} disabled={whyNot(overview) || disabled} />;
}

export function Field({ label, hint, children, error }: { label: string; hint?: ComponentChildren; error?: string; children: (id: string, described: string | undefined) => ComponentChildren }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children(id, hint || error ? `${id}-hint` : undefined)}
      {(hint || error) && (
        <p class={error ? "hint bad-text" : "hint"} id={`${id}-hint`}>{error ?? hint}</p>
      )}
    </div>
  );
}

/** A dialog in front of the page: what will happen, and a button that does it. Escape closes it. */
export function Dialog({ title, children, act, danger, onAct, onClose }: { title: string; act: string; danger?: boolean; onAct: () => Promise<unknown>; onClose: () => void } & Children) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  useEffect(() => {
    const dialog = ref.current!;
    const before = document.activeElement as HTMLElement | null;
    dialog.showModal();
    return () => {
      dialog.close();
      setTimeout(() => before?.focus()); // the browser gives the focus back to nobody once the dialog is gone
    };
  }, []);
  const run = async () => {
    setBusy(true);
    setError("");
    try {
      await onAct();
      onClose();
    } catch (failed) {
      setError(failed instanceof ApiError ? failed.message : String(failed));
      setBusy(false);
    }
  };
  return (
    <dialog ref={ref} aria-labelledby={id} onCancel={onClose}>
      <h2 id={id}>{title}</h2>
      {children}
      {error && <Notice kind="bad">{error}</Notice>}
      <div class="actions end">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind={danger ? "danger" : "primary"} disabled={busy} onClick={() => void run()}>{busy ? "Working…" : act}</Button>
      </div>
    </dialog>
  );
}

/** A table that scrolls sideways by itself where it is too wide, so that the page does not. `stack`: on a phone a row is a card. */
export function Table({ label, head, stack, children }: { label: string; head: ComponentChildren[]; stack?: boolean } & Children) {
  return (
    <div class={stack ? "table stack" : "table"} role="group" aria-label={label} tabIndex={0}>
      <table>
        <thead><tr>{head.map((each) => <th scope="col">{each}</th>)}</tr></thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

export function Warnings({ of, title = "Warning." }: { of: string[]; title?: string }) {
  if (!of.length) return null;
  return (
    <Notice kind="warn" title={of.length === 1 ? title : ""}>
      {of.length === 1 ? of[0] : <ul>{of.map((each) => <li>{each}</li>)}</ul>}
    </Notice>
  );
}
