import type { IncomingMessage, ServerResponse } from 'node:http';
import { forwardedOf } from '../../http/forwarded.ts';
import { originalUrl } from '../../http/middleware.ts';
import type { ResponseHook } from '../../http/response/guarded-response.ts';
import type { CachePurgeReply } from '../store/operations/versions.ts';
import { countedUrl } from './counted-url.ts';
import { invalidatedGroups, namesOfUrl } from './invalidation-names.ts';
import type { KeySettings } from './key-options.ts';
import type { CacheDependencies } from './options.ts';

/** RFC 9110, section 9.2.1, and RFC 10008. An unknown method counts as unsafe. */
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'QUERY']);

export function isUnsafe({ method = 'GET' }: IncomingMessage): boolean {
  return !SAFE_METHODS.has(method);
}

/** Invalidates stored responses at the end of an unsafe request. */
export interface Invalidation extends ResponseHook {
  /** The reply to the purge; undefined until then, and if nothing was purged. */
  readonly purge: CachePurgeReply | undefined;
}

/**
 * A successful unsafe request invalidates the responses of its URL, of the URLs in its response (RFC 9111, section 4.4), and
 * of the groups in its response (RFC 9875, section 3).
 */
export function invalidation(
  req: IncomingMessage,
  res: ServerResponse,
  query: KeySettings['query'],
  { keys, deadlines, caches }: CacheDependencies,
): Invalidation {
  const url = originalUrl(req);
  let purge: CachePurgeReply | undefined;

  async function invalidate(): Promise<void> {
    const located = ['location', 'content-location'].map((name) => sameHostUrl(req, res.getHeader(name)));
    const urls = [url, ...located.filter((each) => each !== undefined)].map((each) =>
      countedUrl(each, query),
    );
    const groups = invalidatedGroups(res.getHeader('cache-group-invalidation'), req, keys);
    const names = [...urls.flatMap((each) => namesOfUrl(each, keys)), ...groups];
    try {
      purge = await caches.versions.purge([...new Set(names)], false, deadlines.of(req));
    } catch (error) {
      caches.responses.reportFailure(error);
    }
  }

  return {
    phase: 'capture',
    get purge() {
      return purge;
    },
    withholdsLastBytes: true,
    // Before the client gets the response, so that its next request gets no older response.
    beforeEnd: () => (res.statusCode >= 200 && res.statusCode < 400 ? invalidate() : undefined),
  };
}

/** The path and query of a URL in a response that has the host of the request, or the host that a trusted proxy names. */
export function sameHostUrl(req: IncomingMessage, field: unknown): string | undefined {
  if (typeof field !== 'string') return undefined;
  const { host, ':authority': authority } = req.headers;
  for (const own of [String(host ?? authority ?? ''), forwardedOf(req)?.host]) {
    const base = `http://${own}${originalUrl(req)}`;
    if (own === undefined || !URL.canParse(field, base)) continue;
    const target = new URL(field, base);
    // With the scheme of the target, which decides whether its port is the default one.
    const origin = `${target.protocol}//${own}`;
    if (URL.canParse(origin) && target.host === new URL(origin).host)
      return `${target.pathname}${target.search}`;
  }
  return undefined;
}
