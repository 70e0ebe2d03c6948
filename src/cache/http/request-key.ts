import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { BoundedMap } from '../../base/bounded-map.ts';
import { identityError, isIdentity } from '../../base/identity.ts';
import { forwardedOf } from '../../http/forwarded.ts';
import { trimWhitespace } from '../../http/message/optional-whitespace.ts';
import { requestContent } from '../../http/message/request-content.ts';
import { asExpress, originalUrl } from '../../http/middleware.ts';
import { appOf, countedUrl, isReadDifferently, pathOf, type SearchRule, urlUnder } from './counted-url.ts';
import type { KeySettings } from './key-options.ts';

/** The memory for known rules. When a rule is evicted, its responses are missed until the next one is stored. */
const RULE_BYTES = 4 * 2 ** 20;
const EXCEPTION_BYTES = 2 ** 20;

/** The measured memory cost of a rule: its text, its names and the set of them. */
const ruleBytes = ({ id }: SearchRule) => id.length * 6;

/** A valid Host. A request with any other Host bypasses the cache. */
const HOST = /^[\w.:[\]-]*$/;

/** The parts of a request from which its key is made. */
interface KeyParts {
  /** The start of the id of a QUERY, with a digest of its content; empty for other methods. */
  readonly content: string;
  readonly host: string;
  readonly url: string;
  /** The result of the app's `key` function; undefined without one. */
  readonly custom: string | undefined;
  /** The values of headers, cookies and a session, which a Redis key must not show. */
  readonly secrets: readonly (string | readonly string[] | null)[];
  /** The names of the secrets, so that two caches whose keys name different headers or cookies share no response. */
  readonly secretNames: string;
  /** Whether the key has the whole URL, so that its response answers no other URL. */
  readonly hasWholeUrl: boolean;
  /** Whether a response may declare by No-Vary-Search which parameters of the query select it. */
  readonly acceptsRules: boolean;
  /** The Express app whose parser reads the query. */
  readonly app: unknown;
}

/** A No-Vary-Search rule, and the URL with only the parameters that select a response under the rule. */
interface RuledUrl {
  readonly rule: SearchRule;
  readonly url: string;
}

/*
 * Each kind of id begins differently, so that ids of two kinds are never equal: a host begins in lower case and contains
 * no `=`.
 */

/** The cache key of a request, without the headers in Vary. */
export class RequestKey {
  /** The id is equal for requests that one stored response may answer if Vary selects it. */
  readonly id: string;
  readonly #parts: KeyParts;
  readonly #ruled: RuledUrl | undefined;
  readonly #isPart: boolean;

  constructor(parts: KeyParts, ruled?: RuledUrl, isPart = false) {
    this.#parts = parts;
    this.#ruled = ruled;
    this.#isPart = isPart;
    const id = parts.content + idOf(parts, ruled);
    this.id = isPart ? `PART ${id}` : id;
  }

  /** The path, and the parameters that the option `key.query` keeps. */
  get url(): string {
    return this.#parts.url;
  }

  get custom(): string | undefined {
    return this.#parts.custom;
  }

  /** Whether the id contains headers, cookies or a session, which a Redis key must not show. */
  get isSecret(): boolean {
    return this.#parts.secretNames !== '';
  }

  /** The No-Vary-Search rule by which the id omits or reorders parameters; undefined for the exact key. */
  get rule(): SearchRule | undefined {
    return this.#ruled?.rule;
  }

  /** Whether a response under this key may answer several URLs of its path. */
  get answersSeveralUrls(): boolean {
    return this.#ruled !== undefined || !this.#parts.hasWholeUrl;
  }

  get acceptsRules(): boolean {
    return this.#parts.acceptsRules;
  }

  /** The id that the key has without a No-Vary-Search rule. */
  get exactId(): string {
    return this.#parts.content + idOf(this.#parts, undefined);
  }

  /** An id that is equal for all requests to one path of a host with one method. */
  get pathId(): string {
    const { content, host, url } = this.#parts;
    return `${content === '' ? '' : 'QUERY '}${targetOf(host, pathOf(url))}`;
  }

  /** The key of the same request under a rule; the exact key without a rule, or if the rule cannot be applied. */
  under(rule: SearchRule | undefined): RequestKey {
    if (rule?.id === this.rule?.id) return this;
    const { url, app, acceptsRules } = this.#parts;
    const counted = rule && acceptsRules ? urlUnder(rule, url, app) : undefined;
    const ruled = rule === undefined || counted === undefined ? undefined : { rule, url: counted };
    return new RequestKey(this.#parts, ruled, this.#isPart);
  }

  /** The key under which a part of the response is stored. */
  ofPart(): RequestKey {
    return new RequestKey(this.#parts, this.#ruled, true);
  }
}

/** The No-Vary-Search rule of each path: the one that the response stored last by this process declared. */
export class SearchRules {
  readonly #rules = new BoundedMap<SearchRule>(RULE_BYTES, ruleBytes);
  /** The exact ids, on paths with a rule, whose last stored response declared no rule, such as error pages. */
  readonly #exceptions = new BoundedMap<true>(EXCEPTION_BYTES);

  /** The key of a request under the known rule of its path. */
  keyUnder(key: RequestKey): RequestKey {
    // In most apps no response declares a rule, and then no request costs a lookup.
    if (this.#rules.size === 0 || !key.acceptsRules) return key;
    const rule = this.#rules.get(key.pathId);
    return key.under(rule === undefined || this.#isException(key) ? undefined : rule);
  }

  learn(key: RequestKey, rule: SearchRule | undefined): void {
    if (!key.acceptsRules || (rule === undefined && this.#rules.size === 0)) return;
    if (rule !== undefined) {
      this.#rules.set(key.pathId, rule);
      if (this.#exceptions.size > 0) this.#exceptions.delete(key.exactId);
    } else if (this.#rules.peek(key.pathId) !== undefined) this.#exceptions.set(key.exactId, true);
  }

  #isException(key: RequestKey): boolean {
    return this.#exceptions.size > 0 && this.#exceptions.get(key.exactId) === true;
  }
}

function idOf({ host, url, custom, secrets, secretNames }: KeyParts, ruled: RuledUrl | undefined): string {
  if (custom !== undefined) return `=${custom}`;
  const target =
    ruled === undefined ? targetOf(host, url) : `SEARCH ${ruled.rule.id} ${targetOf(host, ruled.url)}`;
  return secretNames === '' ? target : secretNames + JSON.stringify([target, ...secrets]);
}

/** Joins a host and a URL to an id of this pair only, since a host contains neither slash nor space. */
function targetOf(host: string, url: string): string {
  return url.charCodeAt(0) === SLASH ? host + url : `${host} ${url}`;
}

const SLASH = 47;

/** The exact cache key of a request; undefined for a request that must bypass the cache. */
export function requestKey(req: IncomingMessage, settings: KeySettings): RequestKey | undefined {
  if (isReadDifferently(req, settings.query)) return undefined;
  const digest = req.method === 'QUERY' ? contentDigest(req) : '';
  if (digest === undefined) return undefined;
  const parts = partsOf(req, settings, digest === '' ? '' : `QUERY ${digest} `);
  return parts && new RequestKey(parts);
}

/** Hashes a QUERY's content and metadata for the key (RFC 10008, section 2.7); undefined for unknown content. */
function contentDigest(req: IncomingMessage): string | undefined {
  const content = requestContent(req);
  if (content === undefined) return undefined;
  const fields = ['content-type', 'content-encoding', 'content-language'].map((name) => req.headers[name]);
  const hash = createHash('sha256').update(JSON.stringify([...fields, content.kind]));
  return hash.update(content.bytes).digest('base64url');
}

const NO_SECRETS: KeyParts['secrets'] = [];

/** The parts of a key that a `key` function returns. */
const CUSTOM_PARTS = {
  host: '',
  secrets: NO_SECRETS,
  secretNames: '',
  hasWholeUrl: false,
  acceptsRules: false,
  app: undefined,
};

function partsOf(req: IncomingMessage, settings: KeySettings, content: string): KeyParts | undefined {
  const { query, secretNames } = settings;
  const url = countedUrl(originalUrl(req), query);
  if (settings.custom !== undefined) {
    const custom = checkCustomKey(settings.custom(asExpress(req)));
    return custom === undefined ? undefined : { ...CUSTOM_PARTS, content, url, custom };
  }
  const sent = settings.host ? hostOf(req) : '';
  if (sent === undefined) return undefined;
  const host = settings.host ? spelledHost(sent) + forwardedKey(req) : sent;
  const secrets = secretNames === '' ? NO_SECRETS : secretsOf(req, settings);
  const hasWholeUrl = query === true;
  const acceptsRules = query !== false;
  const app = appOf(req);
  return { content, host, url, custom: undefined, secrets, secretNames, hasWholeUrl, acceptsRules, app };
}

function secretsOf(req: IncomingMessage, { headers, cookies, session }: KeySettings): KeyParts['secrets'] {
  return [
    ...headers.map((name) => req.headers[name] ?? null),
    ...cookies.map((name) => cookiePairs(req.headers.cookie ?? '', name)),
    session === undefined ? '' : checkSessionKey(session(asExpress(req))),
  ];
}

/** Checks the result of a `key` function. Undefined for false, by which the request bypasses the cache. */
function checkCustomKey(key: unknown): string | undefined {
  if (key === false) return undefined;
  if (isIdentity(key)) return key;
  const expected = 'a string that is not empty, or false for a request that bypasses the cache';
  throw identityError('kit.cache: option `key`', key, expected);
}

function checkSessionKey(key: unknown): string {
  if (typeof key === 'string') return key;
  const expected = 'a string, which may be empty for requests without a session';
  throw identityError('kit.cache: option `key.session`', key, expected);
}

/** The host that the client sent, so that no site gets the pages of another. HTTP/2 sends the host in `:authority`. */
function hostOf({ headers }: IncomingMessage): string | undefined {
  const host = String(headers.host ?? headers[':authority'] ?? '');
  return HOST.test(host) ? host : undefined;
}

/** The start of the host in a key: in lower case, then as it was sent if this differs, since a handler may see it. */
function spelledHost(sent: string): string {
  const host = sent.toLowerCase();
  // A host never contains `>`. A forwarded host and scheme add two of them.
  return host === sent ? host : `${host}>${sent}`;
}

/** The host of the origin: the host that a trusted proxy names, else the host that the client sent. */
export function hostOfOrigin(req: IncomingMessage): string {
  const host = forwardedOf(req)?.host;
  const origin = host !== undefined && HOST.test(host) ? host : (hostOf(req) ?? '');
  return origin.toLowerCase();
}

/** The end of the host in a key: the host and the scheme that a trusted proxy names, since a page may contain them. */
function forwardedKey(req: IncomingMessage): string {
  const forwarded = forwardedOf(req);
  if (forwarded === undefined) return '';
  // The host and the scheme are encoded, since a slash would look like the beginning of the URL. A host never contains
  // `>`.
  const { host = '', proto = '' } = forwarded;
  return `>${encodeURIComponent(host)}>${encodeURIComponent(proto)}`;
}

/**
 * The pairs of a cookie as they were sent, neither unquoted nor decoded; null without one. All pairs of the name are in
 * the key, since parsers disagree on which of them counts. Some parsers also remove other white space around a name.
 */
function cookiePairs(header: string, name: string): string | null {
  const pairs = header.split(';').filter((pair) => {
    const end = pair.indexOf('=');
    return end !== -1 && pair.slice(0, end).trim() === name;
  });
  return pairs.length === 0 ? null : pairs.map(trimWhitespace).join(';');
}
