import type { IncomingMessage } from 'node:http';
import { describe } from '../base/check.ts';
import { RedisKitError } from '../base/errors.ts';
import { asExpress, originalUrl } from '../http/middleware.ts';
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
  const url = countedUrl(originalUrl(req), settings.query);
  if (settings.custom !== undefined) return customKey(settings.custom(asExpress(req)), url);
  const sent = settings.host ? hostOf(req) : '';
  if (sent === undefined) return undefined;
  const host = settings.host ? sent + believedOf(req) : sent;
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

/**
 * What an Express app that trusts its proxy takes for its host and scheme instead: a page may say them, and would say
 * them to everybody. Empty where the app does not believe it, so that nobody gets past the cache by it.
 */
function believedOf(req: IncomingMessage): string {
  const { 'x-forwarded-host': host, 'x-forwarded-proto': proto } = req.headers;
  if (host === undefined && proto === undefined) return '';
  const { app } = req as { app?: { get?(setting: string): unknown } };
  const trusts = app?.get?.('trust proxy fn');
  if (typeof trusts !== 'function' || trusts(req.socket?.remoteAddress, 0) !== true) return '';
  // No host has this sign.
  return `>${firstOf(host)}>${firstOf(proto)}`;
}

/** Express believes the first of several as well. Without a slash, with which the URL begins. */
function firstOf(field: string | string[] | undefined): string {
  return encodeURIComponent((String(field ?? '').split(',', 1)[0] ?? '').trim());
}

/** The URL with what counts of its query, in the order and the spelling in which it came. */
export function countedUrl(url: string, query: KeySettings['query']): string {
  if (query === true) return url;
  const mark = url.indexOf('?');
  if (mark === -1) return url;
  const path = url.slice(0, mark);
  if (query === false) return path;
  const counts =
    'only' in query ? (name: string) => query.only.has(name) : (name: string) => !query.ignore.has(name);
  const kept = url
    .slice(mark + 1)
    .split('&')
    .filter((part) => {
      const name = parameterName(part);
      return name === undefined || counts(name);
    });
  return kept.length === 0 ? path : `${path}?${kept.join('&')}`;
}

/**
 * The parameter that an app's parser makes of a part: `%70age=1` is `page`, and `page[a]=1` and `[page]=1` go into it.
 * Taken literally they would reach the app without being in the key. Undefined for what cannot be decoded.
 */
function parameterName(part: string): string | undefined {
  const end = part.indexOf('=');
  try {
    const name = decodeURIComponent((end === -1 ? part : part.slice(0, end)).replaceAll('+', ' '));
    return /^\[?([^[\]]*)/.exec(name)?.[1];
  } catch {
    return undefined;
  }
}

/** As it was sent, without its quotes or codes undone. */
function cookieOf(header: string, name: string): string | undefined {
  for (const pair of header.split(';')) {
    const end = pair.indexOf('=');
    if (end !== -1 && pair.slice(0, end).trim() === name) return pair.slice(end + 1).trim();
  }
  return undefined;
}
