import type { ServerResponse } from 'node:http';

/* Distinguishes the kit's reads and listeners from those by which a handler may notice that its client has disconnected. */

const OF_KIT: unique symbol = Symbol('a listener of the kit');

type Listener = ((...args: never[]) => unknown) & { [OF_KIT]?: true };

/** More than 0 while Node or the kit, and not the handler, reads the state of a response. */
let readers = 0;

/** From now until `endKitReads()`, reads of a response's state do not count as the handler's. */
export function beginKitReads(): void {
  readers++;
}

/** To be called in a `finally` block. */
export function endKitReads(): void {
  readers--;
}

export function isKitReading(): boolean {
  return readers > 0;
}

/** Marks an event listener of the kit, which is then not mistaken for the handler's. */
export function asKitListener<Marked extends Listener>(listener: Marked): Marked {
  listener[OF_KIT] = true;
  return listener;
}

export function isKitListener(listener: Listener): boolean {
  return listener[OF_KIT] === true;
}

/** Whether the response is destroyed: all of it was sent, its client has disconnected, or `destroy()` was called. */
export function isClosed(
  res: ServerResponse & { readonly stream?: { readonly destroyed?: boolean } },
): boolean {
  readers++;
  try {
    // HTTP/2 responses have no `destroyed`, but their stream does.
    return res.destroyed || res.stream?.destroyed === true;
  } finally {
    readers--;
  }
}
