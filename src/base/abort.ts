import { LinkedList } from './linked-list.ts';

interface SharedListener {
  readonly listeners: LinkedList<() => void>;
  abort(): void;
}

const sharedListeners = new WeakMap<AbortSignal, SharedListener>();

/**
 * Calls the listener when the signal aborts, and returns an unsubscribe function. All listeners of a signal share one
 * event listener: Node warns of a leak from the eleventh event listener, and compares each new one with all others.
 */
export function onAbort(signal: AbortSignal, listener: () => void): () => void {
  const { listeners, abort } = sharedListenerOf(signal);
  if (listeners.size === 0) signal.addEventListener('abort', abort, { once: true });
  const link = listeners.add(listener);
  return () => {
    if (listeners.remove(link) && listeners.size === 0) signal.removeEventListener('abort', abort);
  };
}

function sharedListenerOf(signal: AbortSignal): SharedListener {
  const known = sharedListeners.get(signal);
  if (known !== undefined) return known;
  const listeners = new LinkedList<() => void>();
  const abort = () => {
    for (const { value: listener } of listeners.links()) listener();
  };
  const shared = { listeners, abort };
  sharedListeners.set(signal, shared);
  return shared;
}
