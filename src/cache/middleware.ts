import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError } from '../base/errors.ts';
import type { BudgetOf } from '../engine/budget.ts';
import { beforeEnd } from '../http/before-end.ts';
import { isNotModified, validatorsOf } from '../http/conditional.ts';
import { asExpress, type Middleware, type Next, originalUrl } from '../http/middleware.ts';
import { type Outcome, settle } from '../http/outcome.ts';
import { captureResponse, type WatchSession } from './capture.ts';
import { matchesVary } from './entry.ts';
import { type CacheOptions, type CacheSettings, resolveCacheOptions } from './options.ts';
import { type CacheDeps, type Hit, ResponseCache } from './response-cache.ts';

export function cacheMiddleware(
  options: CacheOptions<never>,
  deps: CacheDeps & { readonly budgetOf: BudgetOf; readonly watchSession: WatchSession },
): Middleware {
  const settings = resolveCacheOptions(options);
  const responses = new ResponseCache(deps);
  const { events } = deps.reporter;
  const failed = (error: unknown) => void deps.reporter.failure('cache', asError(error));

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<Outcome> {
    if (settings.skip?.(asExpress(req)) === true) return 'continue';
    const url = originalUrl(req);
    const id = `${hostOf(req)}${url}`;
    const hit = await responses.find(id, deps.budgetOf(req));
    if (hit !== undefined && matchesVary(hit.entry, req.headers)) {
      events.emit('cache:hit', { url });
      sendHit(req, res, hit, settings);
      return 'answered';
    }
    events.emit('cache:miss', { url });
    addCacheStatus(res, settings, hit === undefined ? 'fwd=uri-miss' : 'fwd=vary-miss');
    if (req.method === 'GET') beforeEnd(res, captureResponse(req, res, captureContext(id, url)));
    return 'continue';
  }

  function captureContext(id: string, url: string) {
    return {
      maxBody: settings.maxBody,
      watchSession: deps.watchSession,
      skip: (reason: string) => events.emit('cache:skipped', { url, reason }),
      failed,
      // Not waited for: the command leaves before the response does, so this process's next read comes after it.
      store(entry: Parameters<ResponseCache['store']>[1]) {
        void responses.store(id, entry, settings.ttl).then((bytes) => {
          if (bytes !== undefined) events.emit('cache:stored', { url, bytes });
        });
      },
    };
  }

  return function cache(req: IncomingMessage, res: ServerResponse, next: Next): void {
    // A response to somebody's credentials is nobody else's (RFC 9111, section 3.5).
    const isShared = req.headers.authorization === undefined;
    if (isShared && (req.method === 'GET' || req.method === 'HEAD'))
      settle(next, failed, () => answer(req, res));
    else next();
  };
}

/** As the client sent it: a site's pages are not another's, whatever the app does with the name. HTTP/2 has another field. */
function hostOf({ headers }: IncomingMessage): string {
  return String(headers.host ?? headers[':authority'] ?? '').toLowerCase();
}

function sendHit(req: IncomingMessage, res: ServerResponse, hit: Hit, settings: CacheSettings): void {
  // Another answer has begun: whoever began it will end it.
  if (res.headersSent) return;
  const { entry, ageMs, leftMs } = hit;
  res.statusCode = entry.status;
  for (const [name, value] of entry.headers) res.setHeader(name, value);
  res.setHeader('Age', Math.floor(ageMs / 1000));
  addCacheStatus(res, settings, `hit; ttl=${Math.floor(leftMs / 1000)}`);
  if (isNotModified(req, validatorsOf(entry.headers))) {
    res.statusCode = 304;
    res.removeHeader('Content-Type');
    res.end();
    return;
  }
  res.setHeader('Content-Length', entry.body.length);
  if (req.method === 'HEAD') res.end();
  else res.end(entry.body);
}

/** RFC 9211: each cache on the way adds itself to the list. */
function addCacheStatus(res: ServerResponse, { cacheStatus }: CacheSettings, what: string): void {
  if (cacheStatus === undefined) return;
  const before = res.getHeader('Cache-Status');
  res.setHeader(
    'Cache-Status',
    `${before === undefined ? '' : `${String(before)}, `}${cacheStatus}; ${what}`,
  );
}
