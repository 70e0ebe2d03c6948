import type { IncomingMessage, ServerResponse } from 'node:http';
import { isClosed } from './kit-reads.ts';
import { knownStateOf, type ResponseState, stateOf } from './response-state.ts';

/** The part of a guarded response's state that is read here. The guard itself uses this file, so it is not imported. */
type GuardedState = ResponseState & { readonly guard?: { readonly hasEnded: boolean } };

/*
 * A request is unserved when its client disconnects before a handler received it: while it waits for a lock, a slot, an
 * earlier request, or the response of a leader. No handler will call `end()`, which would make the middleware above release
 * what they hold for the request, so the middleware that notices the disconnect calls `endUnserved`.
 */

/** Calls `release` when the request becomes unserved, or at once if it already is. `release` must not throw. */
export function whenUnserved(res: ServerResponse, release: () => void): void {
  const state = stateOf(res);
  if (state.isUnserved) release();
  else if (state.releases === undefined) state.releases = [release];
  else state.releases.push(release);
}

/**
 * Runs the releases of a request that no handler will receive. Does nothing if the response was ended, for example by a
 * timeout.
 */
export function endUnserved(res: ServerResponse): void {
  const state = stateOf(res);
  if (state.isUnserved || hasEnded(res)) return;
  state.isUnserved = true;
  // The last acquired is released first.
  for (const release of state.releases?.reverse() ?? []) release();
}

/**
 * Whether a handler would run for no response: the response was ended, for example by a timeout, or its client has
 * disconnected. A hook that is added now gives back at once what it holds, so the handler would run without it.
 */
export function isResponseOver(res: ServerResponse): boolean {
  return hasEnded(res) || isClosed(res);
}

/** Whether `end()` was called. `writableEnded` is false while the end waits for hooks. */
export function hasEnded(res: ServerResponse): boolean {
  const state: GuardedState | undefined = knownStateOf(res);
  return res.writableEnded || state?.guard?.hasEnded === true;
}

/** Whether the client left. While the response waits behind another on its connection, only the socket shows that. */
export function hasClientLeft(req: IncomingMessage, res: ServerResponse): boolean {
  return isClosed(res) || isSocketGone(req);
}

/** Whether the connection is closed, so that the request has no client address. */
export function isSocketGone({ socket }: { readonly socket?: IncomingMessage['socket'] }): boolean {
  return socket?.destroyed === true;
}
