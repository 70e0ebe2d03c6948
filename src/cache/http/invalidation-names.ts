import type { IncomingMessage, OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { parseList } from 'structured-headers';
import type { Keys } from '../../base/keys.ts';
import { asExpress, type Res } from '../../http/middleware.ts';
import { checkTags } from '../store/options.ts';
import { pathOf } from './counted-url.ts';
import type { CacheSettings } from './options.ts';
import { hostOfOrigin } from './request-key.ts';

type Field = OutgoingHttpHeader | undefined;

/** The invalidation name of the responses to one URL. */
export function urlName(url: string, keys: Keys): string {
  return keys.cacheName('url', url);
}

/** The invalidation name of the responses of a path that answer several URLs by their No-Vary-Search. */
export function pathName(url: string, keys: Keys): string {
  return keys.cacheName('path', pathOf(url));
}

/**
 * The names that the invalidation of a URL purges. The process may not know which URLs share a stored response with this one,
 * so all responses of the path that answer several URLs are included.
 */
export function namesOfUrl(url: string, keys: Keys): readonly string[] {
  return [urlName(url, keys), pathName(url, keys)];
}

/** The host of the groups of stored responses whose key contains no host. */
const ANY_HOST = '';

/**
 * The invalidation names of a response besides those of its key: its tags, the groups of its host that Cache-Groups lists
 * (RFC 9875, section 2), and these groups as tags, for `kit.invalidate({ tags })`. A tag is not a group, so that no response
 * can invalidate the tags of the app.
 */
export function responseNames(
  req: IncomingMessage,
  res: ServerResponse,
  response: {
    readonly settings: CacheSettings;
    /** The tags of `req.cache.tag()`. */
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

/** The tags of the option `tags`. Throws if the function returns no list of tags. */
function optionTags({ tags }: CacheSettings, req: IncomingMessage, res: ServerResponse): readonly string[] {
  if (typeof tags !== 'function') return tags;
  return checkTags('kit.cache: option `tags`: the tags', tags(asExpress(req), res as Res));
}

/** The invalidation names of the groups in the Cache-Group-Invalidation of an unsafe request's response (RFC 9875, section 3). */
export function invalidatedGroups(field: Field, req: IncomingMessage, keys: Keys): readonly string[] {
  const hosts = [hostOfOrigin(req), ANY_HOST];
  return groupsIn(field).flatMap((group) => hosts.map((host) => nameOfGroup(host, group, keys)));
}

/** A host contains no space, so that two pairs of host and group never get the same name. */
function nameOfGroup(host: string, group: string, keys: Keys): string {
  return keys.cacheName('group', `${host} ${group}`);
}

/** The members of a List of Strings. Any other value is ignored as a whole (RFC 9651, section 4.2). */
function groupsIn(field: Field): readonly string[] {
  if (field === undefined) return [];
  try {
    const members = parseList([field].flat().join(', ').trim()).map(([member]) => member);
    return members.every((member) => typeof member === 'string') ? [...new Set(members)] : [];
  } catch {
    return [];
  }
}
