import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError } from '../../base/errors.ts';
import { forwardedOf } from '../../http/forwarded.ts';
import { originalUrl } from '../../http/middleware.ts';
import type { ResponseHook } from '../../http/response/before-end.ts';
import type { CachePurgeReply } from '../store/operations/versions.ts';
import type { Versions } from '../store/versions.ts';
import { countedUrl } from './counted-url.ts';
import { namesToInvalidate } from './invalidation-names.ts';
import type { KeySettings } from './key-options.ts';
import type { ResponderDeps } from './responder.ts';

/** RFC 9110, section 9.2.1, and RFC 10008; an unknown method may change anything. */
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'QUERY']);

export function isUnsafe({ method = 'GET' }: IncomingMessage): boolean {
  return !SAFE.has(method);
}

/** Invalidates at the end of an unsafe request. */
export interface Invalidation extends ResponseHook {
  /** Undefined until it is done, and where nothing is invalidated. */
  readonly done: CachePurgeReply | undefined;
}

/**
 * A change that succeeded invalidates what is stored for its URL, and for those that it names (RFC 9111, section 4.4), and
 * the groups that it names (RFC 9875, section 3).
 */
export function invalidation(
  req: IncomingMessage,
  res: ServerResponse,
  query: KeySettings['query'],
  versions: Versions,
  { keys, reporter, budgetOf }: ResponderDeps,
): Invalidation {
  const url = originalUrl(req);
  let done: CachePurgeReply | undefined;

  async function purge(): Promise<void> {
    const named = ['location', 'content-location'].map((name) => sameHostUrl(req, res.getHeader(name)));
    const urls = [url, ...named.filter((each) => each !== undefined)].map((each) => countedUrl(each, query));
    const groups = namesToInvalidate(res.getHeader('cache-group-invalidation'), req, keys);
    const names = [...urls.map((each) => keys.cacheName('url', each)), ...groups];
    try {
      done = await versions.purge([...new Set(names)], false, budgetOf(req));
    } catch (error) {
      reporter.failure('cache', asError(error));
    }
  }

  return {
    phase: 'capture',
    get done() {
      return done;
    },
    withholdsLastBytes: true,
    // Before the client knows of its success, so that what it asks for next is new.
    beforeEnd: () => (res.statusCode >= 200 && res.statusCode < 400 ? purge() : undefined),
  };
}

/** Path and query of a URL that a response names on the host of its request, or on the host that a trusted proxy names. */
export function sameHostUrl(req: IncomingMessage, field: unknown): string | undefined {
  if (typeof field !== 'string') return undefined;
  const { host, ':authority': authority } = req.headers;
  for (const own of [String(host ?? authority ?? ''), forwardedOf(req)?.host]) {
    const base = `http://${own}${originalUrl(req)}`;
    if (own === undefined || !URL.canParse(field, base)) continue;
    const target = new URL(field, base);
    // The scheme decides which port may be left out.
    const origin = `${target.protocol}//${own}`;
    if (URL.canParse(origin) && target.host === new URL(origin).host)
      return `${target.pathname}${target.search}`;
  }
  return undefined;
}
