import { setMaxListeners } from 'node:events';
import type { ServerResponse } from 'node:http';
import { isClosed, listenOnce } from './disconnect-watch.ts';

export { isClosed };

const CLOSING: unique symbol = Symbol('what waits for the end of the response');

interface Closing {
  readonly listeners: (() => void)[];
  signal: AbortSignal | undefined;
}

type Closable = ServerResponse & { [CLOSING]?: Closing };

/** Calls the listener when the response closes. All share one listener of the response, so that none is one too many. */
export function onClose(res: Closable, listener: () => void): void {
  closing(res).listeners.push(listener);
}

/** Aborts when the response is over: it was sent, or its client has gone. One signal for all that ask. */
export function closeSignalOf(res: Closable): AbortSignal {
  const state = closing(res);
  state.signal ??= signalOf(res);
  return state.signal;
}

function closing(res: Closable): Closing {
  const known = res[CLOSING];
  if (known !== undefined) return known;
  const state: Closing = { listeners: [], signal: undefined };
  res[CLOSING] = state;
  listenOnce(res, 'close', () => {
    for (const listener of state.listeners) listener();
  });
  return state;
}

function signalOf(res: Closable): AbortSignal {
  const controller = new AbortController();
  // As many may wait as there are middleware on the response.
  setMaxListeners(0, controller.signal);
  if (isClosed(res)) controller.abort();
  else onClose(res, () => controller.abort());
  return controller.signal;
}
