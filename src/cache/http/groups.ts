import type { IncomingMessage, OutgoingHttpHeader, OutgoingHttpHeaders } from 'node:http';
import { parseList } from 'structured-headers';
import type { Keys } from '../../base/keys.ts';
import { checkTags } from '../store/options.ts';
import type { KeySettings } from './key-options.ts';
import { hostOfOrigin } from './request-key.ts';

/** A field of a response, as Node has it. */
type Field = OutgoingHttpHeader | undefined;

/** The host of stored responses whose key names no host: they answer requests to every host. */
const EVERY_HOST = '';

/**
 * By what a response is invalidated, besides by its place: by its tags, as a member of the groups of its host that its
 * Cache-Groups names (RFC 9875, section 2), and by `kit.invalidate({ tags })` of these groups. A tag of the app is no
 * group, so that no response can invalidate by it.
 */
export function namesToPurgeBy(
  req: IncomingMessage,
  { tags, headers }: { readonly tags: readonly string[]; readonly headers: OutgoingHttpHeaders },
  { host, custom }: KeySettings,
  keys: Keys,
): readonly string[] {
  const groups = groupsIn(headers['cache-groups']);
  const groupTags = groups.filter((group) => group !== '');
  checkTags('kit.cache: field Cache-Groups: the groups', groupTags);
  const origin = groups.length > 0 && host && custom === undefined ? hostOfOrigin(req) : EVERY_HOST;
  return [
    ...[...tags, ...groupTags].map((tag) => keys.cacheName('tag', tag)),
    ...groups.map((group) => nameOfGroup(origin, group, keys)),
  ];
}

/** The names that a Cache-Group-Invalidation of the response to an unsafe request invalidates (RFC 9875, section 3). */
export function namesToInvalidate(field: Field, req: IncomingMessage, keys: Keys): readonly string[] {
  const hosts = [hostOfOrigin(req), EVERY_HOST];
  return groupsIn(field).flatMap((group) => hosts.map((host) => nameOfGroup(host, group, keys)));
}

/** No host has a space, so that no two of host and group are the same. */
function nameOfGroup(host: string, group: string, keys: Keys): string {
  return keys.cacheName('group', `${host} ${group}`);
}

/** The members of a List of Strings. A field that is not such a list is ignored as a whole (RFC 9651, section 4.2). */
function groupsIn(field: Field): readonly string[] {
  if (field === undefined) return [];
  try {
    const members = parseList([field].flat().join(', ').trim()).map(([member]) => member);
    return members.every((member) => typeof member === 'string') ? [...new Set(members)] : [];
  } catch {
    return [];
  }
}
