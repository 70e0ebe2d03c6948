import type { IncomingMessage, OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { parseList } from 'structured-headers';
import type { Keys } from '../../base/keys.ts';
import { forwardedOf } from '../../http/forwarded.ts';
import { asExpress, originalUrl, type Res } from '../../http/middleware.ts';
import type { ResponseHook } from '../../http/response/guarded-response.ts';
import type { CachePurgeReply } from '../store/operations/versions.ts';
import { checkTags } from '../store/options.ts';
import { countedUrl, pathOf } from './counted-url.ts';
import type { KeySettings } from './key-options.ts';
import type { CacheDependencies, CacheSettings } from './options.ts';
import { hostOfOrigin } from './request-key.ts';

/** Safe methods (RFC 9110, section 9.2.1, and RFC 10008). An unknown method is treated as unsafe. */
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'QUERY']);

export function isUnsafe({ method = 'GET' }: IncomingMessage): boolean {
  return !SAFE_METHODS.has(method);
}

/** Invalidates stored responses at the end of an unsafe request. */
export interface Invalidation extends ResponseHook {
  /** The reply to the purge; undefined before the purge, after its failure, and if nothing was purged. */
  readonly purge: CachePurgeReply | undefined;
}

/**
 * A successful unsafe request invalidates the responses of its URL, of the URLs that its response names (RFC 9111,
 * section 4.4), and of the groups that its response names (RFC 9875, section 3).
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
    const names = [...new Set([...urls.flatMap((each) => namesOfUrl(each, keys)), ...groups])];
    try {
      purge = await caches.versions.purge(names, false, deadlines.of(req));
    } catch (error) {
      caches.responses.reportFailure(error);
      caches.versions.retryPurge(names);
    }
  }

  return {
    phase: 'capture',
    get purge() {
      return purge;
    },
    withholdsLastBytes: true,
    // The purge comes before the client gets the response, so that the client's next request gets no older response.
    beforeEnd: () => (res.statusCode >= 200 && res.statusCode < 400 ? invalidate() : undefined),
  };
}

/** The path and query of a URL in a field, if its host is that of the request or the one that a trusted proxy names. */
export function sameHostUrl(req: IncomingMessage, field: unknown): string | undefined {
  if (typeof field !== 'string') return undefined;
  const { host, ':authority': authority } = req.headers;
  for (const own of [String(host ?? authority ?? ''), forwardedOf(req)?.host]) {
    const base = `http://${own}${originalUrl(req)}`;
    if (own === undefined || !URL.canParse(field, base)) continue;
    const target = new URL(field, base);
    // The scheme of the target decides which port is the default one.
    const origin = `${target.protocol}//${own}`;
    if (URL.canParse(origin) && target.host === new URL(origin).host)
      return `${target.pathname}${target.search}`;
  }
  return undefined;
}

type Field = OutgoingHttpHeader | undefined;

/** The invalidation name of the responses to one URL. */
export function urlName(url: string, keys: Keys): string {
  return keys.cacheName('url', url);
}

/** The invalidation name of the responses on a path that answer several URLs by No-Vary-Search. */
export function pathName(url: string, keys: Keys): string {
  return keys.cacheName('path', pathOf(url));
}

/**
 * The names that an invalidation by URL purges. This process may not have seen which URLs share a stored response, so
 * all responses on the path that answer several URLs are included.
 */
export function namesOfUrl(url: string, keys: Keys): readonly string[] {
  return [urlName(url, keys), pathName(url, keys)];
}

/** The host in the group names of responses whose key contains no host. */
const ANY_HOST = '';

/**
 * The invalidation names of a response besides those of its key: its tags, the groups in its Cache-Groups (RFC 9875,
 * section 2), and these groups as tags, for `kit.invalidate({ tags })`. A tag is not a group, so that no response can
 * invalidate the tags of the app.
 */
export function responseNames(
  req: IncomingMessage,
  res: ServerResponse,
  response: {
    readonly settings: CacheSettings;
    /** The tags that the handler added by `req.cache.tag()`. */
    readonly tags: readonly string[];
    readonly headers: OutgoingHttpHeaders;
  },
  keys: Keys,
): readonly string[] {
  const { settings, headers } = response;
  const tags = [...optionTags(settings, req, res), ...response.tags];
  const groups = groupsIn(headers['cache-groups']);
  const groupTags = groups.filter((group) => group !== '');
  if (groupTags.length > 0) checkTags('kit.cache: field Cache-Groups: the groups', groupTags);
  const { host, custom } = settings.key;
  const origin = groups.length > 0 && host && custom === undefined ? hostOfOrigin(req) : ANY_HOST;
  return [
    ...[...tags, ...groupTags].map((tag) => keys.cacheName('tag', tag)),
    ...groups.map((group) => nameOfGroup(origin, group, keys)),
  ];
}

/** The tags of the option `tags`. Throws if its function returns no list of tags. */
function optionTags({ tags }: CacheSettings, req: IncomingMessage, res: ServerResponse): readonly string[] {
  if (typeof tags !== 'function') return tags;
  return checkTags('kit.cache: option `tags`: the tags', tags(asExpress(req), res as Res));
}

/** The invalidation names of the groups that an unsafe request's response invalidates (RFC 9875, section 3). */
function invalidatedGroups(field: Field, req: IncomingMessage, keys: Keys): readonly string[] {
  const hosts = [hostOfOrigin(req), ANY_HOST];
  return groupsIn(field).flatMap((group) => hosts.map((host) => nameOfGroup(host, group, keys)));
}

/** The invalidation name of a group. It is unique for a host and a group, since a host contains no space. */
function nameOfGroup(host: string, group: string, keys: Keys): string {
  return keys.cacheName('group', `${host} ${group}`);
}

/** The strings in a field that is a List of Strings. Any other field is ignored as a whole (RFC 9651, section 4.2). */
function groupsIn(field: Field): readonly string[] {
  if (field === undefined) return [];
  try {
    const members = parseList([field].flat().join(', ').trim()).map(([member]) => member);
    return members.every((member) => typeof member === 'string') ? [...new Set(members)] : [];
  } catch {
    return [];
  }
}
