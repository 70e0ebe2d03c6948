import type { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';

/* Distinguishes the kit's reads and listeners from those by which a handler may notice that its client has disconnected. */

/** The event listeners that the kit itself has registered for the end of a connection. */
const kitListeners = new WeakSet<(...args: never[]) => unknown>();

/** More than 0 while Node or the kit, and not the handler, reads the state of a response. */
let readers = 0;

/** Runs `work`, whose reads of a response's state do not count as the handler's. */
export function asKit<Result>(work: () => Result): Result {
  readers++;
  try {
    return work();
  } finally {
    readers--;
  }
}

const LISTENERS: unique symbol = Symbol('the listeners of the kit');

/** A response with the kit's listeners for 'close', or a request with those for 'aborted'. */
type Observed = EventEmitter & { [LISTENERS]?: Set<() => void> };

/**
 * Adds a listener of the kit, which is not mistaken for the handler's, and returns an unsubscribe function. All
 * listeners of the kit share one event listener, so that Node does not warn of a leak.
 */
export function listenAsKit(emitter: Observed, event: 'close' | 'aborted', listener: () => void): () => void {
  const listeners = emitter[LISTENERS] ?? new Set();
  if (emitter[LISTENERS] === undefined) {
    emitter[LISTENERS] = listeners;
    const listenToAll = () => {
      for (const each of listeners) each();
    };
    kitListeners.add(listenToAll);
    emitter.once(event, listenToAll);
  }
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function isKitReading(): boolean {
  return readers > 0;
}

export function isKitListener(listener: (...args: never[]) => unknown): boolean {
  return kitListeners.has(listener);
}

/** Whether the response is destroyed: all of it was sent, its client has disconnected, or `destroy()` was called. */
export function isClosed(
  res: ServerResponse & { readonly stream?: { readonly destroyed?: boolean } },
): boolean {
  // HTTP/2 responses have no `destroyed`, but their stream does.
  return asKit(() => res.destroyed || res.stream?.destroyed === true);
}
