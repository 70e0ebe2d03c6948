import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError } from '../../base/errors.ts';
import { hasContent } from '../../http/message/request-content.ts';
import { asExpress, type Middleware, type Next, type Req, type Res } from '../../http/middleware.ts';
import { checkMiddlewareCall } from '../../http/mount-check.ts';
import { callError } from '../../http/response/complete-response.ts';
import { addResponseHook } from '../../http/response/guarded-response.ts';
import { callInBackground, passError, runMiddleware, untilClientLeaves } from '../../http/run-middleware.ts';
import type { Caches } from '../caches.ts';
import type { CachePolicies } from '../store/policies.ts';
import { offerControls } from './handler-controls.ts';
import { type CacheOptions, type CacheSettings, resolveCacheOptions } from './options.ts';
import { PostResponses } from './post-responses.ts';
import { type CacheDeps, Responder } from './responder.ts';
import { SearchRules } from './search-rules.ts';
import { invalidation, isUnsafe } from './unsafe.ts';
import { VaryMemory } from './vary.ts';

/** What makes a response; the same as an Express handler. */
export type Handler<Request extends IncomingMessage = Req, Response extends ServerResponse = Res> = (
  req: Request,
  res: Response,
  next: Next,
) => unknown;

export interface CacheMiddlewareDeps extends CacheDeps {
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
  const own = { ...deps, memory: { vary: new VaryMemory(), rules: new SearchRules() } };
  const responder = new Responder(settings, responses, own);
  const posts = new PostResponses(settings, deps.caches, own);
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
        addResponseHook(res, change);
        posts.capture(req, res, change);
      }
      if (exchange !== undefined && responder.answerAtOnce(exchange)) return;
      if (exchange === undefined) offerControls(req);
    } catch (error) {
      passError({ req, res, next }, error);
      return;
    }
    if (exchange === undefined) next();
    else
      runMiddleware({ req, res, next }, failed, () =>
        untilClientLeaves(res, () => responder.answer(exchange)),
      );
  }

  if (handler === undefined) return cache;
  const make = handler as Handler;
  return function cachedHandler(req: IncomingMessage, res: ServerResponse, next: Next): void {
    checkMiddlewareCall('kit.cache', req, next);
    cache(req, res, (error) => {
      if (error === undefined) callInBackground(() => make(asExpress(req), res as Res, next), next);
      else next(error);
    });
  };
}
