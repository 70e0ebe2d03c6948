import type { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';

/* Distinguishes the kit's reads and listeners from those by which a handler may notice that its client has disconnected. */

/** The kit's own listeners for the end of a connection. */
const kitListeners = new WeakSet<(...args: never[]) => unknown>();

/** Positive while Node or the kit reads the state of a response. */
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

/** A response or a request, with the kit's listeners for the one event of it that the kit listens for. */
type Observed = EventEmitter & { [LISTENERS]?: Set<() => void> };

/**
 * Adds a listener of the kit, which does not count as one of the handler, and returns an unsubscribe function. All share one
 * event listener, so that Node does not warn of a leak.
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

/** Whether 'close' has been emitted. */
export function isClosed(
  res: ServerResponse & { readonly stream?: { readonly destroyed?: boolean } },
): boolean {
  // HTTP/2 responses of Node have this state only on their stream.
  return asKit(() => res.destroyed || res.stream?.destroyed === true);
}
