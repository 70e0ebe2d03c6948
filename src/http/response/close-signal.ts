import { setMaxListeners } from 'node:events';
import type { ServerResponse } from 'node:http';
import { asKitListener, isClosed } from './kit-reads.ts';
import { knownStateOf, type ResponseState, stateOf } from './response-state.ts';

type ClosingState = ResponseState & {
  closeSignal?: AbortSignal;
  closeListeners?: (() => void)[];
};

/** All responses share this event listener, which calls those of the kit, so that Node does not warn of a leak. */
const callListeners = asKitListener(function (this: ServerResponse): void {
  const state: ClosingState | undefined = knownStateOf(this);
  for (const listener of state?.closeListeners ?? []) listener();
});

export function onClose(res: ServerResponse, listener: () => void): void {
  const state: ClosingState = stateOf(res);
  if (state.closeListeners !== undefined) state.closeListeners.push(listener);
  else {
    state.closeListeners = [listener];
    res.once('close', callListeners);
  }
}

/** A signal that aborts when the response closes, because it was sent or its client disconnected. One per response. */
export function closeSignalOf(res: ServerResponse): AbortSignal {
  const state: ClosingState = stateOf(res);
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
