import type { ServerResponse } from 'node:http';
import { overrideFlag } from './response-flags.ts';
import { knownStateOf, type ResponseState, stateOf } from './response-state.ts';

interface Backpressure {
  isSuspended(): boolean;
  /** Node's own `writableNeedDrain`. */
  needsDrain(): boolean;
}

type PacedState = ResponseState & { backpressure?: Backpressure };

/** How often 'drain' is emitted: after each one, middleware in between, such as compression, passes one chunk only. */
const RESUME_EVERY_MS = 10;

/**
 * Suspends backpressure while `isSuspended()` is true: the handler does not wait for 'drain', and bytes that the client
 * has not read stay in Node's buffer. The caller limits the number of these bytes. Returns a function that resumes a
 * handler that already waits; call it when `isSuspended()` becomes true.
 */
export function suspendBackpressure(res: ServerResponse, isSuspended: () => boolean): () => void {
  const state: PacedState = stateOf(res);
  const other = state.backpressure;
  // `pipe()` waits for 'drain' if `writableNeedDrain` is true, whatever `write()` returned.
  const needsDrain =
    other?.needsDrain ??
    overrideFlag(res, 'writableNeedDrain', () => (isBackpressureSuspended(res) ? false : undefined));
  state.backpressure = { isSuspended: () => isSuspended() || other?.isSuspended() === true, needsDrain };
  let timer: NodeJS.Timeout | undefined;
  return function resume() {
    clearTimeout(timer);
    if (!isSuspended()) return;
    if (needsDrain()) res.emit('drain');
    timer = setTimeout(resume, RESUME_EVERY_MS).unref();
  };
}

export function isBackpressureSuspended(res: ServerResponse): boolean {
  const state: PacedState | undefined = knownStateOf(res);
  return state?.backpressure?.isSuspended() === true;
}
