// Names of masks that a request, a route or an experiment may be given.

import type { Mask } from "./types";

/** `name@version`, in the server's order. */
export function targets(masks: Mask[]): string[] {
  return masks.map((each) => `${each.name}@${each.version}`);
}
