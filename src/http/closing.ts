import type { ServerResponse } from 'node:http';
import { isClosed, listenOnce } from './departure.ts';

export { isClosed };

/**
 * Tells when a handler breaks its response off with `destroy()` in place of ending it, as `stream.pipeline` does when its
 * source fails. A client that goes away is another thing: Node does not call this for it.
 */
export function whenAbandoned(res: ServerResponse, abandoned: () => void): void {
  const { destroy } = res;
  // Node's HTTP/2 responses have none.
  if (typeof destroy !== 'function') return;
  res.destroy = function destroyAbandoned(...args: Parameters<typeof destroy>) {
    if (!res.writableEnded) abandoned();
    return destroy.apply(res, args);
  };
}

/** Aborts when the response is over: it was sent, or nobody is there any more to get it. */
export function closingOf(res: ServerResponse): AbortSignal {
  const closing = new AbortController();
  if (isClosed(res)) closing.abort();
  else listenOnce(res, 'close', () => closing.abort());
  return closing.signal;
}
