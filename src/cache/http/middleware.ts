import type { IncomingMessage, ServerResponse } from 'node:http';
import { checkedBoolean } from '../../base/checked-boolean.ts';
import { hasContent } from '../../http/message/request-content.ts';
import { asExpress, type Middleware, type Next, type Req, type Res } from '../../http/middleware.ts';
import { checkMiddlewareCall } from '../../http/mount-check.ts';
import { withReadAhead } from '../../http/read-ahead.ts';
import { callError } from '../../http/response/complete-response.ts';
import { addResponseHook } from '../../http/response/guarded-response.ts';
import {
  callInBackground,
  type MiddlewareCall,
  passError,
  runMiddleware,
  untilClientLeaves,
} from '../../http/run-middleware.ts';
import { runInTurnBatch } from '../../http/turn-batch.ts';
import type { CachePolicies } from '../store/options.ts';
import type { Exchange } from './forwarder.ts';
import { offerControls } from './handler-controls.ts';
import { invalidation, isUnsafe } from './invalidation.ts';
import {
  type CacheDependencies,
  type CacheOptions,
  type CacheSettings,
  resolveCacheOptions,
} from './options.ts';
import { PostResponses } from './post-responses.ts';
import { Responder } from './responder.ts';
import { ResponseMemory } from './response-key.ts';

/** A handler whose responses are cached. Its arguments are those of an Express handler. */
export type Handler<Request extends IncomingMessage = Req, Response extends ServerResponse = Res> = (
  req: Request,
  res: Response,
  next: Next,
) => unknown;

/** Whether the cache may answer. A GET with a body bypasses it, since the key does not contain the body. */
function isCacheable(req: IncomingMessage, { ignoreBody }: CacheSettings): boolean {
  if (req.method === 'QUERY') return true;
  if (req.method !== 'GET' && req.method !== 'HEAD') return false;
  return ignoreBody || !hasContent(req);
}

export function cacheMiddleware(
  options: CacheOptions<never>,
  deps: CacheDependencies & { readonly policies: CachePolicies },
  handler?: Handler<never, never>,
): Middleware {
  const settings = resolveCacheOptions(options, deps.policies);
  const memory = new ResponseMemory();
  const responder = new Responder(settings, memory, deps);
  const posts = new PostResponses(settings, memory, deps);
  const reportFailure = (error: unknown) => deps.caches.responses.reportFailure(error);

  /** Returns the exchange if a stored response may answer the request; otherwise prepares it for the handler. */
  function begin(req: IncomingMessage, res: ServerResponse): Exchange | undefined {
    const { skip } = settings;
    const isSkipped = checkedBoolean('kit.cache: option `skip`', skip?.(asExpress(req)) ?? false);
    // A stored response cannot be sent once middleware above has sent the headers.
    if (!isSkipped && !res.headersSent && isCacheable(req, settings)) {
      const exchange = responder.exchangeOf(req, res);
      if (exchange !== undefined) return exchange;
    } else if (!isSkipped && isUnsafe(req)) {
      const hook = invalidation(req, res, settings.key.query, deps);
      addResponseHook(res, hook);
      posts.capture(req, res, hook);
    }
    offerControls(req);
    return undefined;
  }

  function cache(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const unusable = callError('kit.cache', { req, res, next });
    if (unusable !== undefined) {
      next(unusable);
      return;
    }
    const call = { req, res, next };
    let exchange: Exchange | undefined;
    let localAnswer: (() => void) | undefined;
    try {
      exchange = begin(req, res);
      localAnswer = exchange && responder.findLocalAnswer(exchange);
    } catch (error) {
      passError(call, error);
      return;
    }
    if (exchange === undefined) next();
    else if (localAnswer !== undefined) runInTurnBatch(call, () => sendTo(call, localAnswer));
    else runMiddleware(call, reportFailure, () => untilClientLeaves(res, () => responder.answer(exchange)));
  }

  function sendTo(call: MiddlewareCall, send: () => void): void {
    try {
      send();
    } catch (error) {
      passError(call, error);
    }
  }

  /** Not for requests whose key or use depends on a callback of the app, which is called only once its turn comes. */
  function readAhead(req: IncomingMessage, res: ServerResponse): void {
    const { skip, key } = settings;
    if (skip !== undefined || key.custom !== undefined || key.session !== undefined) return;
    if (req.method === 'QUERY' || !isCacheable(req, settings)) return;
    const exchange = responder.exchangeOf(req, res);
    if (exchange !== undefined) responder.readAhead(exchange);
  }

  // A follower waits for the response of another request, and a later middleware must see what that request changed.
  const pipelined = { isOvertaken: false };
  if (handler === undefined) return withReadAhead(cache, readAhead, pipelined);
  const run = handler as Handler;
  return withReadAhead(cachedHandler, readAhead, pipelined);

  function cachedHandler(req: IncomingMessage, res: ServerResponse, next: Next): void {
    checkMiddlewareCall('kit.cache', req, next);
    cache(req, res, (error) => {
      if (error === undefined) callInBackground(() => run(asExpress(req), res as Res, next), next);
      else next(error);
    });
  }
}
