import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { describe } from '../../base/check.ts';
import { RedisKitError } from '../../base/errors.ts';
import { forwardedOf } from '../../http/forwarded.ts';
import { requestContent } from '../../http/message/request-content.ts';
import { asExpress, originalUrl } from '../../http/middleware.ts';
import { countedUrl, isReadDifferently } from './counted-url.ts';
import type { KeySettings } from './key-options.ts';

export interface RequestKey {
  /** The same for requests that one stored response may answer, but for what it varies on. */
  readonly id: string;
  /** Path and query, as far as they count. */
  readonly url: string;
  /** What a `key` function gave. */
  readonly custom: string | undefined;
  /** Whether the id holds headers, cookies or a session, which nobody is to read in a key. */
  readonly isSecret: boolean;
}

/** What a client may call a host; anything else is answered, and not from here. */
const HOST = /^[\w.:[\]-]*$/;

/** Undefined when the request is not to be cached. */
export function requestKey(req: IncomingMessage, settings: KeySettings): RequestKey | undefined {
  if (isReadDifferently(req, settings.query)) return undefined;
  const key = keyOfTarget(req, settings);
  if (req.method !== 'QUERY' || key === undefined) return key;
  const digest = contentDigest(req);
  // No other id begins so: a host is in lower case.
  return digest === undefined ? undefined : { ...key, id: `QUERY ${digest} ${key.id}` };
}

/** RFC 10008, section 2.7: the key of a QUERY holds its content and what describes it. Undefined when it is not known. */
function contentDigest(req: IncomingMessage): string | undefined {
  const content = requestContent(req);
  if (content === undefined) return undefined;
  const fields = ['content-type', 'content-encoding', 'content-language'].map((name) => req.headers[name]);
  const hash = createHash('sha256').update(JSON.stringify([...fields, content.kind]));
  return hash.update(content.bytes).digest('base64url');
}

function keyOfTarget(req: IncomingMessage, settings: KeySettings): RequestKey | undefined {
  const url = countedUrl(originalUrl(req), settings.query);
  if (settings.custom !== undefined) return customKey(settings.custom(asExpress(req)), url);
  const sent = settings.host ? hostOf(req) : '';
  if (sent === undefined) return undefined;
  const host = settings.host ? sent + believedKey(req) : sent;
  // A host has no slash and no space, so that no two of host and URL meet.
  const place = url.charCodeAt(0) === SLASH ? host + url : `${host} ${url}`;
  const { headers, cookies, session } = settings;
  if (headers.length === 0 && cookies.length === 0 && session === undefined) {
    return { id: place, url, custom: undefined, isSecret: false };
  }
  const parts = [
    ...headers.map((name) => String(req.headers[name] ?? '')),
    ...cookies.map((name) => cookieOf(req.headers.cookie ?? '', name) ?? null),
    session === undefined ? '' : sessionPart(session(asExpress(req))),
  ];
  return { id: JSON.stringify([place, ...parts]), url, custom: undefined, isSecret: true };
}

const SLASH = 47;

function customKey(key: unknown, url: string): RequestKey | undefined {
  if (key === false) return undefined;
  if (typeof key === 'string' && key !== '') {
    // No host begins so.
    return { id: `=${key}`, url, custom: key, isSecret: false };
  }
  throw noKey('key', key, 'a string that is not empty, or false for a request that is left alone');
}

function sessionPart(part: unknown): string {
  if (typeof part === 'string') return part;
  throw noKey('key.session', part, 'a string; one for all who have no session may be empty');
}

function noKey(option: string, value: unknown, remedy: string): RedisKitError {
  return new RedisKitError(
    'ERR_REDIS_KIT_NO_IDENTITY',
    `kit.cache: option \`${option}\` returned ${describe(value)}; it must return ${remedy}`,
  );
}

/** As the client sent it: a site's pages are not another's, whatever the app does with the name. HTTP/2 has another field. */
function hostOf({ headers }: IncomingMessage): string | undefined {
  const host = String(headers.host ?? headers[':authority'] ?? '');
  return HOST.test(host) ? host.toLowerCase() : undefined;
}

/** The host of the origin that a request is for: the one that a trusted proxy names, else the one that the client sent. */
export function hostOfOrigin(req: IncomingMessage): string {
  const host = forwardedOf(req)?.host;
  return host !== undefined && HOST.test(host) ? host.toLowerCase() : (hostOf(req) ?? '');
}

/** A page may say host and scheme that a trusted proxy named, and would say them to everybody. */
function believedKey(req: IncomingMessage): string {
  const forwarded = forwardedOf(req);
  if (forwarded === undefined) return '';
  // Without a slash, with which the URL begins. No host has this sign.
  const { host = '', proto = '' } = forwarded;
  return `>${encodeURIComponent(host)}>${encodeURIComponent(proto)}`;
}

/** As it was sent, without its quotes or codes undone. */
function cookieOf(header: string, name: string): string | undefined {
  for (const pair of header.split(';')) {
    const end = pair.indexOf('=');
    if (end !== -1 && pair.slice(0, end).trim() === name) return pair.slice(end + 1).trim();
  }
  return undefined;
}
