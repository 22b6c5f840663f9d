// Loading: what a page asks of the server, again every few seconds while somebody looks.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";

export interface Loaded<T> {
  data: T | null;
  /** Of the last try. Data of the one before stay. */
  error: ApiError | null;
  again: () => Promise<void>;
}

/** Load now, when `key` changes, and every `seconds` (0: once). The page that is left behind hears nothing more. */
export function useLoad<T>(load: (signal: AbortSignal) => Promise<T>, key: string, seconds = 0): Loaded<T> {
  const [state, setState] = useState<{ key: string; data: T | null; error: ApiError | null }>({ key, data: null, error: null });
  const current = useRef(load);
  current.current = load;
  const controller = useRef<AbortController | null>(null);

  const again = useCallback(async () => {
    controller.current?.abort();
    const own = (controller.current = new AbortController());
    try {
      const data = await current.current(own.signal);
      if (!own.signal.aborted) setState({ key, data, error: null });
    } catch (error) {
      if (own.signal.aborted) return;
      const told = error instanceof ApiError ? error : new ApiError(0, "failed", String(error));
      setState((before) => ({ key, data: before.key === key ? before.data : null, error: told }));
    }
  }, [key]);

  useEffect(() => {
    void again();
    if (!seconds) return () => controller.current?.abort();
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") void again();
    }, 1000 * seconds);
    return () => {
      clearInterval(timer);
      controller.current?.abort();
    };
  }, [again, seconds]);

  return { data: state.key === key ? state.data : null, error: state.error, again };
}

/** The address behind `#`: `#/experiments/detox` is ["experiments", "detox"], and what follows `?`. */
export function useHash(): { path: string[]; query: URLSearchParams } {
  const read = () => location.hash.replace(/^#\/?/, "");
  const [hash, setHash] = useState(read);
  useEffect(() => {
    const changed = () => setHash(read());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  const [path, query] = hash.split("?");
  return { path: (path ?? "").split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query ?? "") };
}

/** Width of an element in CSS pixels, as it changes; 0 until the element is there. */
export function useWidth<E extends Element>(): [(element: E | null) => void, number] {
  const [element, setElement] = useState<E | null>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.round(entry!.contentRect.width)));
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  return [setElement, width];
}
