import type { IncomingMessage, ServerResponse } from 'node:http';
import { isClosed } from './close-signal.ts';

/*
 * A request is unserved when its client leaves before a handler got it: while it waits for a lock, a slot, an earlier
 * request or another's response. No handler will run, so no `end()` follows that would give back what the middleware
 * above hold for it, and the middleware that notices says so here.
 */

const HOLDS: unique symbol = Symbol('what is given back when the request is unserved');

interface Holder extends ServerResponse {
  [HOLDS]?: (() => void)[] | 'unserved';
}

/** Calls `giveBack` when the request turns out to be unserved; at once where that is known. It must not throw. */
export function whenUnserved(res: Holder, giveBack: () => void): void {
  const holds = res[HOLDS];
  if (holds === 'unserved') giveBack();
  else if (holds === undefined) res[HOLDS] = [giveBack];
  else holds.push(giveBack);
}

/** Ends a request that no handler will get. A response that was ended, by a timeout for example, ran its hooks. */
export function endUnserved(res: Holder): void {
  const holds = res[HOLDS] ?? [];
  if (holds === 'unserved' || res.writableEnded) return;
  res[HOLDS] = 'unserved';
  // What was taken last is given back first.
  for (const giveBack of holds.reverse()) giveBack();
}

/** Whether no client is left that an answer could reach. A pipelined response is not told so; its socket is. */
export function hasClientLeft(req: IncomingMessage, res: ServerResponse): boolean {
  return isClosed(res) || isSocketGone(req);
}

/** A connection that is gone has no address any more. */
export function isSocketGone({ socket }: { readonly socket?: IncomingMessage['socket'] }): boolean {
  return socket?.destroyed === true;
}
