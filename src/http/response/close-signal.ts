import { setMaxListeners } from 'node:events';
import type { ServerResponse } from 'node:http';
import { isClosed, listenOnce } from './kit-reads.ts';

export { isClosed };

const CLOSE_LISTENERS: unique symbol = Symbol('the listeners for the close of the response');

interface CloseListeners {
  readonly listeners: (() => void)[];
  signal: AbortSignal | undefined;
}

type Closable = ServerResponse & { [CLOSE_LISTENERS]?: CloseListeners };

/** Calls the listener when the response closes. All share one event listener, so that Node does not warn of a leak. */
export function onClose(res: Closable, listener: () => void): void {
  closeListeners(res).listeners.push(listener);
}

/** A signal that aborts when the response closes: it was sent, or the client disconnected. One signal per response. */
export function closeSignalOf(res: Closable): AbortSignal {
  const state = closeListeners(res);
  state.signal ??= signalOf(res);
  return state.signal;
}

function closeListeners(res: Closable): CloseListeners {
  const known = res[CLOSE_LISTENERS];
  if (known !== undefined) return known;
  const state: CloseListeners = { listeners: [], signal: undefined };
  res[CLOSE_LISTENERS] = state;
  listenOnce(res, 'close', () => {
    for (const listener of state.listeners) listener();
  });
  return state;
}

function signalOf(res: Closable): AbortSignal {
  const controller = new AbortController();
  // Each middleware of the response may add a listener.
  setMaxListeners(0, controller.signal);
  if (isClosed(res)) controller.abort();
  else onClose(res, () => controller.abort());
  return controller.signal;
}
