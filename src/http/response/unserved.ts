import type { IncomingMessage, ServerResponse } from 'node:http';
import { isClosed } from './kit-reads.ts';

/*
 * A request is unserved when its client disconnects before a handler received it: while it waits for a lock, a slot, an
 * earlier request, or the response of a leader. No handler will call `end()`, which would make the middleware above release
 * what they hold for the request, so the middleware that notices the disconnect calls `endUnserved`.
 */

const RELEASES: unique symbol = Symbol('the releases of an unserved request');

interface UnservedResponse extends ServerResponse {
  [RELEASES]?: (() => void)[] | 'unserved';
}

/** Calls `release` when the request becomes unserved, or at once if it already is. `release` must not throw. */
export function whenUnserved(res: UnservedResponse, release: () => void): void {
  const releases = res[RELEASES];
  if (releases === 'unserved') release();
  else if (releases === undefined) res[RELEASES] = [release];
  else releases.push(release);
}

/**
 * Runs the releases of a request that no handler will receive. Does nothing if the response was ended, for example by a
 * timeout.
 */
export function endUnserved(res: UnservedResponse): void {
  const releases = res[RELEASES] ?? [];
  if (releases === 'unserved' || res.writableEnded) return;
  res[RELEASES] = 'unserved';
  // The last acquired is released first.
  for (const release of releases.reverse()) release();
}

/** Whether the client left. While the response waits behind another on its connection, only the socket shows that. */
export function hasClientLeft(req: IncomingMessage, res: ServerResponse): boolean {
  return isClosed(res) || isSocketGone(req);
}

/** Whether the connection is closed, so that the request has no client address. */
export function isSocketGone({ socket }: { readonly socket?: IncomingMessage['socket'] }): boolean {
  return socket?.destroyed === true;
}
