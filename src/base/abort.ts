interface Listening {
  readonly listeners: Set<() => void>;
  stop(): void;
}

const listening = new WeakMap<AbortSignal, Listening>();

/**
 * Calls the listener when the signal aborts, and returns an unsubscribe function. All listeners of a signal share one
 * that is added to it: Node warns of a leak from the eleventh on, and compares each with all before.
 */
export function onAbort(signal: AbortSignal, listener: () => void): () => void {
  const shared = listening.get(signal) ?? listenTo(signal);
  shared.listeners.add(listener);
  return () => {
    if (shared.listeners.delete(listener) && shared.listeners.size === 0) shared.stop();
  };
}

function listenTo(signal: AbortSignal): Listening {
  const listeners = new Set<() => void>();
  const abort = () => {
    listening.delete(signal);
    for (const listener of [...listeners]) listener();
  };
  const stop = () => {
    if (listening.get(signal) === shared) listening.delete(signal);
    signal.removeEventListener('abort', abort);
  };
  const shared = { listeners, stop };
  listening.set(signal, shared);
  signal.addEventListener('abort', abort, { once: true });
  return shared;
}
