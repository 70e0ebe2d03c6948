import type { IncomingMessage } from 'node:http';
import type { Keys } from '../base/keys.ts';
import type { Req } from '../http/middleware.ts';
import { type SseDeps, type SseMiddleware, sseMiddleware } from './middleware.ts';
import type { SseOptions } from './options.ts';

export interface SseMethods {
  /**
   * Returns a middleware that responds to GET with a stream of server-sent events: the messages of channels, or with
   * `replay` the entries of a log, from the last id of the client on. The streams end with `kit.close()`, or with
   * `close()` of the middleware.
   */
  sse<Request extends IncomingMessage = Req>(options: SseOptions<Request>): SseMiddleware;
}

export function sseFeature(kit: Omit<SseDeps, 'keys'>) {
  return (keys: Keys): SseMethods => ({
    sse: (options: SseOptions<never>) => sseMiddleware(options, { ...kit, keys }),
  });
}
