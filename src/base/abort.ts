interface SharedListener {
  readonly listeners: Set<() => void>;
  stop(): void;
}

const sharedListeners = new WeakMap<AbortSignal, SharedListener>();

/**
 * Calls the listener when the signal aborts, and returns an unsubscribe function. All listeners of a signal share one
 * event listener: Node warns of a leak from the eleventh, and compares each new one with all others.
 */
export function onAbort(signal: AbortSignal, listener: () => void): () => void {
  const shared = sharedListeners.get(signal) ?? listenTo(signal);
  shared.listeners.add(listener);
  return () => {
    if (shared.listeners.delete(listener) && shared.listeners.size === 0) shared.stop();
  };
}

function listenTo(signal: AbortSignal): SharedListener {
  const listeners = new Set<() => void>();
  const abort = () => {
    sharedListeners.delete(signal);
    for (const listener of [...listeners]) listener();
  };
  const stop = () => {
    if (sharedListeners.get(signal) === shared) sharedListeners.delete(signal);
    signal.removeEventListener('abort', abort);
  };
  const shared = { listeners, stop };
  sharedListeners.set(signal, shared);
  signal.addEventListener('abort', abort, { once: true });
  return shared;
}
