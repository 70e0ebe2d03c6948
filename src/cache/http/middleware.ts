import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError } from '../../base/errors.ts';
import { checkCall } from '../../http/foreign-call.ts';
import { hasContent } from '../../http/message/request-content.ts';
import { asExpress, type Middleware, type Next, type Req, type Res } from '../../http/middleware.ts';
import { callAside, failCall, settle, unlessGone } from '../../http/outcome.ts';
import { beforeEnd } from '../../http/response/before-end.ts';
import { callError } from '../../http/response/complete-response.ts';
import type { Caches } from '../caches.ts';
import type { CachePolicies } from '../store/options.ts';
import { offerControls } from './handler-controls.ts';
import { type CacheOptions, type CacheSettings, resolveCacheOptions } from './options.ts';
import { PostResponses } from './post-responses.ts';
import { Responder, type ResponderDeps } from './responder.ts';
import { invalidation, isUnsafe } from './unsafe.ts';

/** What makes a response; the same as an Express handler. */
export type Handler<Request extends IncomingMessage = Req, Response extends ServerResponse = Res> = (
  req: Request,
  res: Response,
  next: Next,
) => unknown;

export interface CacheMiddlewareDeps extends ResponderDeps {
  readonly caches: Caches;
  readonly policies: CachePolicies;
}

/** A GET with a body may be answered by what the body says, and its key does not hold it. */
function isCacheable(req: IncomingMessage, { ignoreBody }: CacheSettings): boolean {
  if (req.method === 'QUERY') return true;
  if (req.method !== 'GET' && req.method !== 'HEAD') return false;
  return ignoreBody || !hasContent(req);
}

export function cacheMiddleware(
  options: CacheOptions<never>,
  deps: CacheMiddlewareDeps,
  handler?: Handler<never, never>,
): Middleware {
  const settings = resolveCacheOptions(options, deps.policies);
  const { responses, versions } = deps.caches;
  const responder = new Responder(settings, responses, deps);
  const posts = new PostResponses(settings, deps.caches, deps);
  const failed = (error: unknown) => void deps.reporter.failure('cache', asError(error));

  function cache(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const unusable = callError('kit.cache', { req, res, next });
    if (unusable !== undefined) {
      next(unusable);
      return;
    }
    let exchange: ReturnType<Responder['exchangeOf']>;
    try {
      const isSkipped = settings.skip?.(asExpress(req)) === true;
      if (!isSkipped && isCacheable(req, settings)) exchange = responder.exchangeOf(req, res);
      else if (!isSkipped && isUnsafe(req)) {
        const change = invalidation(req, res, settings.key.query, versions, deps);
        beforeEnd(res, change);
        posts.capture(req, res, change);
      }
      if (exchange !== undefined && responder.answerAtOnce(exchange)) return;
      if (exchange === undefined) offerControls(req);
    } catch (error) {
      failCall({ req, res, next }, error);
      return;
    }
    if (exchange === undefined) next();
    else settle({ req, res, next }, failed, () => unlessGone(res, () => responder.answer(exchange)));
  }

  if (handler === undefined) return cache;
  const make = handler as Handler;
  return function cachedHandler(req: IncomingMessage, res: ServerResponse, next: Next): void {
    checkCall('kit.cache', req, next);
    cache(req, res, (error) => {
      if (error === undefined) callAside(() => make(asExpress(req), res as Res, next), next);
      else next(error);
    });
  };
}
