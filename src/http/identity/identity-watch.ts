import type { IncomingMessage, ServerResponse } from 'node:http';
import { isHeadPassing } from '../response/guarded-response.ts';
import { WatchedProperty } from '../watched-property.ts';
import { CookieReads } from './cookie-reads.ts';
import { watchedReads } from './watched-reads.ts';

/** The app's options about identities: which further properties identify the user, and which cookies do not. */
export interface WatchedIdentities {
  /** Further request properties that identify the user. */
  readonly identities: readonly string[];
  /** Cookies that do not identify the user, so that reads of them are ignored. */
  readonly knownCookies: readonly string[];
}

/** Request properties that identify the user; `user` is set by Passport and similar packages. */
const IDENTITY_NAMES = ['session', 'sessionID', 'sessionStore', 'user'];

/** More than 0 while code runs whose reads of an identity do not influence the response. */
let exemptions = 0;

/** Runs `work` and ignores its synchronous reads of an identity; other code could run between asynchronous reads. */
export function withoutIdentityWatch<Result>(work: () => Result): Result {
  exemptions++;
  try {
    return work();
  } finally {
    exemptions--;
  }
}

/**
 * Notices whether a handler reads anything that identifies the user of a request. Reads of an absent identity count as
 * well: a page for an anonymous user must not be sent to a user who is logged in. An identity that is redefined during
 * the watch counts as read, since reads of the new property cannot be noticed.
 */
export class IdentityWatch {
  readonly #res: ServerResponse;
  /** The properties of the session, the user and the declared identities. */
  readonly #named: readonly WatchedProperty[];
  /** Properties that contain the cookies and the Authorization field. */
  readonly #credentials: readonly WatchedProperty[];
  readonly #cookieReads = new CookieReads();
  #readsNamed = false;
  #readsAuthorization = false;
  /** Which kinds of properties count as read because one of them was replaced; set when the watch ends. */
  #replaced: { readonly named: boolean; readonly credentials: boolean } | undefined;

  constructor(req: IncomingMessage, res: ServerResponse, { identities, knownCookies }: WatchedIdentities) {
    this.#res = res;
    // Node builds `headers` from `rawHeaders` on the first read, which must happen before `rawHeaders` is watched.
    void req.headers;
    const names = [...new Set([...IDENTITY_NAMES, ...identities])];
    this.#named = names.map((name) => new WatchedProperty(req, name, { read: (value) => this.#read(value) }));
    this.#credentials = [
      this.#watchCookies(req, 'cookies', knownCookies),
      this.#watchCookies(req, 'signedCookies', knownCookies),
      this.#watchHeaders(req, 'headers'),
      // Node builds it from `rawHeaders` as well. Middleware above may have read it, so that `rawHeaders` is not read.
      this.#watchHeaders(req, 'headersDistinct'),
      new WatchedProperty(req, 'rawHeaders', {
        read: (value) => {
          this.#readAllHeaders();
          return value;
        },
      }),
    ];
  }

  /** Whether the session, the user or a declared identity was read. */
  get readsSession(): boolean {
    return this.#readsNamed || this.#areReplaced().named;
  }

  get readsCookies(): boolean {
    return this.#cookieReads.any || this.#areReplaced().credentials;
  }

  get readsAuthorization(): boolean {
    return this.#readsAuthorization || this.#areReplaced().credentials;
  }

  /** Ends the watch and keeps its results. */
  stop(): void {
    if (this.#replaced !== undefined) return;
    this.#replaced = this.#areReplaced();
    for (const property of [...this.#named, ...this.#credentials]) property.stop();
  }

  #areReplaced(): { readonly named: boolean; readonly credentials: boolean } {
    const anyOf = (properties: readonly WatchedProperty[]) => properties.some(({ isReplaced }) => isReplaced);
    return this.#replaced ?? { named: anyOf(this.#named), credentials: anyOf(this.#credentials) };
  }

  /** Whether a read is the handler's. While the head is sent, session middleware above reads the session. */
  get #isHandlerReading(): boolean {
    return exemptions === 0 && !isHeadPassing(this.#res);
  }

  #read(value: unknown): unknown {
    this.#readsNamed ||= this.#isHandlerReading;
    return value;
  }

  #readAllHeaders(): void {
    this.#readHeader('cookie');
    this.#readHeader('authorization');
  }

  #watchCookies(
    req: IncomingMessage,
    name: 'cookies' | 'signedCookies',
    knownCookies: readonly string[],
  ): WatchedProperty {
    return new WatchedProperty(req, name, {
      read: (value) => this.#readCookies(value, knownCookies),
      assigned: (value) => this.#cookieReads.assign(name, value),
    });
  }

  #readCookies(value: unknown, knownCookies: readonly string[]): unknown {
    if (!this.#isHandlerReading) return value;
    const isObject = typeof value === 'object' && value !== null;
    if (knownCookies.length > 0 && isObject) return watchedCookies(value, knownCookies, this.#cookieReads);
    this.#cookieReads.readParsed();
    return value;
  }

  #watchHeaders(req: IncomingMessage, property: 'headers' | 'headersDistinct'): WatchedProperty {
    const listener = {
      read: (name: string | symbol) => this.#readHeader(name),
      readAll: () => this.#readAllHeaders(),
    };
    let watched: { readonly headers: object; readonly proxy: object } | undefined;
    return new WatchedProperty(req, property, {
      read: (headers) => {
        if (!this.#isHandlerReading || typeof headers !== 'object' || headers === null) return headers;
        if (watched?.headers !== headers) watched = { headers, proxy: watchedReads(headers, listener) };
        return watched.proxy;
      },
    });
  }

  #readHeader(name: string | symbol): void {
    if (!this.#isHandlerReading) return;
    if (name === 'cookie') this.#cookieReads.readHeader();
    else if (name === 'authorization') this.#readsAuthorization = true;
  }
}

/** Watches parsed cookies. Reads of known cookies are ignored; the first read of another cookie is counted. */
function watchedCookies(cookies: object, known: readonly string[], reads: CookieReads): object {
  let isCounted = false;
  const readAll = () => {
    if (!isCounted) reads.readParsed();
    isCounted = true;
  };
  const read = (name: string | symbol) => {
    if (typeof name === 'string' && !known.includes(name)) readAll();
  };
  return watchedReads(cookies, { read, readAll });
}
