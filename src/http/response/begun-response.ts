import type { ServerResponse } from 'node:http';
import { knownStateOf, type ResponseState } from './response-state.ts';
import { endUnserved } from './unserved.ts';

/** The part of a guarded response's state that is read here. The guard itself sends refusals, so it is not imported. */
type GuardedState = ResponseState & { readonly guard?: { readonly hasEnded: boolean } };

/**
 * Returns whether other code has begun the response, so that none can be sent. If that code has not ended it either,
 * the response is destroyed, as Express does after an error: no handler will end it, and its client would wait forever.
 */
export function closeIfBegun(res: ServerResponse): boolean {
  if (!res.headersSent) return false;
  if (!hasEnded(res)) {
    endUnserved(res);
    res.destroy();
  }
  return true;
}

/** Whether `end()` was called. `writableEnded` is false while the end waits for hooks. */
function hasEnded(res: ServerResponse): boolean {
  const state: GuardedState | undefined = knownStateOf(res);
  return res.writableEnded || state?.guard?.hasEnded === true;
}
