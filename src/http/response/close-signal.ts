import { setMaxListeners } from 'node:events';
import type { ServerResponse } from 'node:http';
import { isClosed, listenAsKit } from './kit-reads.ts';
import { stateOf } from './response-state.ts';

export function onClose(res: ServerResponse, listener: () => void): void {
  listenAsKit(res, 'close', listener);
}

/** A signal that aborts when the response closes, because it was sent or its client disconnected. One per response. */
export function closeSignalOf(res: ServerResponse): AbortSignal {
  const state = stateOf(res);
  state.closeSignal ??= createSignal(res);
  return state.closeSignal;
}

function createSignal(res: ServerResponse): AbortSignal {
  const controller = new AbortController();
  // No limit, since each middleware of the response may add a listener.
  setMaxListeners(0, controller.signal);
  if (isClosed(res)) controller.abort();
  else onClose(res, () => controller.abort());
  return controller.signal;
}
