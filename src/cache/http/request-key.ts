import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { identityError, isIdentity } from '../../base/identity.ts';
import { forwardedOf } from '../../http/forwarded.ts';
import { requestContent } from '../../http/message/request-content.ts';
import { asExpress, originalUrl } from '../../http/middleware.ts';
import { appOf, countedUrl, isReadDifferently, pathOf } from './counted-url.ts';
import type { KeySettings } from './key-options.ts';
import { type SearchRule, urlUnder } from './no-vary-search.ts';

/** What a client may call a host; anything else is answered, and not from here. */
const HOST = /^[\w.:[\]-]*$/;

/** What the key of a request is made of. */
interface KeyParts {
  /** What stands for the content of a QUERY, at the beginning of the id. */
  readonly content: string;
  readonly host: string;
  readonly url: string;
  readonly custom: string | undefined;
  /** Headers, cookies and a session, which nobody is to read in a key. */
  readonly secrets: readonly (string | null)[];
  /** Whether a response may declare which part of the query counts. */
  readonly takesRules: boolean;
  /** Whose parser reads the query. */
  readonly app: unknown;
}

/** A rule, and the URL with what counts by it. */
interface Ruled {
  readonly rule: SearchRule;
  readonly url: string;
}

/* No id begins like another kind of id: a host is in lower case and without `=`. */

/** By what a stored response is found. */
export class RequestKey {
  /** The same for requests that one stored response may answer, but for what it varies on. */
  readonly id: string;
  readonly #parts: KeyParts;
  readonly #ruled: Ruled | undefined;
  readonly #isPart: boolean;

  constructor(parts: KeyParts, ruled?: Ruled, isPart = false) {
    this.#parts = parts;
    this.#ruled = ruled;
    this.#isPart = isPart;
    const id = parts.content + idOf(parts, ruled);
    this.id = isPart ? `PART ${id}` : id;
  }

  /** Path and query of the request, as far as the options let them count. */
  get url(): string {
    return this.#parts.url;
  }

  /** What a `key` function gave. */
  get custom(): string | undefined {
    return this.#parts.custom;
  }

  /** Whether the id holds headers, cookies or a session. */
  get isSecret(): boolean {
    return this.#parts.secrets.length > 0;
  }

  /** The rule by which parameters are left out of the id, or are in another order. */
  get rule(): SearchRule | undefined {
    return this.#ruled?.rule;
  }

  /** Whether a response may declare which part of the query counts. */
  get takesRules(): boolean {
    return this.#parts.takesRules;
  }

  /** The id of the whole response, with all of the query that the options let count. */
  get exactId(): string {
    return this.#parts.content + idOf(this.#parts, undefined);
  }

  /** The same for the requests to one path of a host by one method. */
  get pathId(): string {
    const { content, host, url } = this.#parts;
    return `${content === '' ? '' : 'QUERY '}${placeOf(host, pathOf(url))}`;
  }

  /** The key of the same request under a rule; the exact one without a rule, and where the rule cannot be followed. */
  under(rule: SearchRule | undefined): RequestKey {
    if (rule?.id === this.rule?.id) return this;
    const { url, app, takesRules } = this.#parts;
    const counted = rule && takesRules ? urlUnder(rule, url, app) : undefined;
    const ruled = rule === undefined || counted === undefined ? undefined : { rule, url: counted };
    return new RequestKey(this.#parts, ruled, this.#isPart);
  }

  /** The key of the stored part of the response. */
  ofPart(): RequestKey {
    return new RequestKey(this.#parts, this.#ruled, true);
  }
}

function idOf({ host, url, custom, secrets }: KeyParts, ruled: Ruled | undefined): string {
  if (custom !== undefined) return `=${custom}`;
  const place =
    ruled === undefined ? placeOf(host, url) : `SEARCH ${ruled.rule.id} ${placeOf(host, ruled.url)}`;
  return secrets.length === 0 ? place : JSON.stringify([place, ...secrets]);
}

/** A host has no slash and no space, so that no two of host and URL meet. */
function placeOf(host: string, url: string): string {
  return url.charCodeAt(0) === SLASH ? host + url : `${host} ${url}`;
}

const SLASH = 47;

/** Undefined when the request is not to be cached. */
export function requestKey(req: IncomingMessage, settings: KeySettings): RequestKey | undefined {
  if (isReadDifferently(req, settings.query)) return undefined;
  const digest = req.method === 'QUERY' ? contentDigest(req) : '';
  if (digest === undefined) return undefined;
  const parts = partsOf(req, settings, digest === '' ? '' : `QUERY ${digest} `);
  return parts && new RequestKey(parts);
}

/** RFC 10008, section 2.7: the key of a QUERY holds its content and what describes it. Undefined when it is not known. */
function contentDigest(req: IncomingMessage): string | undefined {
  const content = requestContent(req);
  if (content === undefined) return undefined;
  const fields = ['content-type', 'content-encoding', 'content-language'].map((name) => req.headers[name]);
  const hash = createHash('sha256').update(JSON.stringify([...fields, content.kind]));
  return hash.update(content.bytes).digest('base64url');
}

const NONE: readonly string[] = [];

function partsOf(req: IncomingMessage, settings: KeySettings, content: string): KeyParts | undefined {
  const { headers, cookies, session, query } = settings;
  const url = countedUrl(originalUrl(req), query);
  if (settings.custom !== undefined) {
    const custom = checkedKey(settings.custom(asExpress(req)));
    if (custom === undefined) return undefined;
    return { content, host: '', url, custom, secrets: NONE, takesRules: false, app: undefined };
  }
  const sent = settings.host ? hostOf(req) : '';
  if (sent === undefined) return undefined;
  const host = settings.host ? sent + believedKey(req) : sent;
  const isOpen = headers.length === 0 && cookies.length === 0 && session === undefined;
  const secrets = isOpen
    ? NONE
    : [
        ...headers.map((name) => String(req.headers[name] ?? '')),
        ...cookies.map((name) => cookieOf(req.headers.cookie ?? '', name) ?? null),
        session === undefined ? '' : sessionPart(session(asExpress(req))),
      ];
  return { content, host, url, custom: undefined, secrets, takesRules: query !== false, app: appOf(req) };
}

/** Undefined for a request that is left alone. */
function checkedKey(key: unknown): string | undefined {
  if (key === false) return undefined;
  if (isIdentity(key)) return key;
  const expected = 'a string that is not empty, or false for a request that is left alone';
  throw identityError('kit.cache: option `key`', key, expected);
}

function sessionPart(part: unknown): string {
  if (typeof part === 'string') return part;
  const expected = 'a string; one for all who have no session may be empty';
  throw identityError('kit.cache: option `key.session`', part, expected);
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
