import type { IncomingMessage, ServerResponse } from 'node:http';
import { isHeadPassing } from '../response/guarded-response.ts';
import { WatchedProperty } from '../watched-property.ts';
import { CookieReads } from './cookie-reads.ts';

/** What a watch takes for an identity, besides the session and the credentials. */
export interface WatchedIdentities {
  /** Further properties of the request that say whose it is. */
  readonly identities: readonly string[];
  /** The cookies that a handler may read without a look. */
  readonly knownCookies: readonly string[];
}

/** Where a handler finds whose request it is; `user` is what Passport and its like derive from the session. */
const NAMES = ['session', 'sessionID', 'sessionStore', 'user'];

/** More than 0 while code reads identities that only maintains them and derives no response from them. */
let keepers = 0;

/** Reads of an identity in here are not the handler's. `work` is synchronous, since other code runs in between otherwise. */
export function withoutIdentityWatch<Result>(work: () => Result): Result {
  keepers++;
  try {
    return work();
  } finally {
    keepers--;
  }
}

/**
 * Notes what a handler reads that says whose request it is. A value that was read counts whatever it is: a page for
 * "nobody is logged in" is as personal as any other. An identity that is defined anew while the watch lasts counts as
 * read, since its reads cannot be seen.
 */
export class IdentityWatch {
  readonly #res: ServerResponse;
  /** The session and the identities by name. */
  readonly #named: readonly WatchedProperty[];
  /** Where the cookies and the Authorization field are. */
  readonly #credentials: readonly WatchedProperty[];
  readonly #cookieReads = new CookieReads();
  #readsNamed = false;
  #readsAuthorization = false;
  /** What counts as read since it was replaced; decided when the watch ends. */
  #replaced: { readonly named: boolean; readonly credentials: boolean } | undefined;

  constructor(req: IncomingMessage, res: ServerResponse, { identities, knownCookies }: WatchedIdentities) {
    this.#res = res;
    // Node makes the headers from the raw ones when they are first read: before those are watched.
    void req.headers;
    const names = [...new Set([...NAMES, ...identities])];
    this.#named = names.map((name) => new WatchedProperty(req, name, { read: (value) => this.#read(value) }));
    this.#credentials = [
      this.#watchCookies(req, 'cookies', knownCookies),
      this.#watchCookies(req, 'signedCookies', knownCookies),
      this.#watchHeaders(req),
      new WatchedProperty(req, 'rawHeaders', { read: (value) => this.#readAllHeaders(value) }),
    ];
  }

  /** Whether the session, the user, or another identity by name was read. */
  get readsSession(): boolean {
    return this.#readsNamed || this.#areReplaced().named;
  }

  get readsCookies(): boolean {
    return this.#cookieReads.any || this.#areReplaced().credentials;
  }

  get readsAuthorization(): boolean {
    return this.#readsAuthorization || this.#areReplaced().credentials;
  }

  /** Ends the watch; what it has noted stays. */
  stop(): void {
    if (this.#replaced !== undefined) return;
    this.#replaced = this.#areReplaced();
    for (const property of [...this.#named, ...this.#credentials]) property.stop();
  }

  #areReplaced(): { readonly named: boolean; readonly credentials: boolean } {
    const anyOf = (properties: readonly WatchedProperty[]) => properties.some(({ isReplaced }) => isReplaced);
    return this.#replaced ?? { named: anyOf(this.#named), credentials: anyOf(this.#credentials) };
  }

  /** A session middleware above reads the session while the head leaves. */
  get #isHandlers(): boolean {
    return keepers === 0 && !isHeadPassing(this.#res);
  }

  #read(value: unknown): unknown {
    this.#readsNamed ||= this.#isHandlers;
    return value;
  }

  #readAllHeaders(value: unknown): unknown {
    this.#readHeader('cookie');
    this.#readHeader('authorization');
    return value;
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
    if (!this.#isHandlers) return value;
    const isObject = typeof value === 'object' && value !== null;
    if (knownCookies.length > 0 && isObject) return cookiesBut(value, knownCookies, this.#cookieReads);
    this.#cookieReads.readParsed();
    return value;
  }

  #watchHeaders(req: IncomingMessage): WatchedProperty {
    const read = (name: string | symbol) => this.#readHeader(name);
    let watched: { readonly headers: object; readonly proxy: object } | undefined;
    return new WatchedProperty(req, 'headers', {
      read: (headers) => {
        if (!this.#isHandlers || typeof headers !== 'object' || headers === null) return headers;
        if (watched?.headers !== headers) watched = { headers, proxy: watchedHeaders(headers, read) };
        return watched.proxy;
      },
    });
  }

  #readHeader(name: string | symbol): void {
    if (!this.#isHandlers) return;
    if (name === 'cookie') this.#cookieReads.readHeader();
    else if (name === 'authorization') this.#readsAuthorization = true;
  }
}

/** The headers, with each read of one reported; a copy of all fields counts as a read of each. */
function watchedHeaders(headers: object, read: (name: string | symbol) => void): object {
  return watchedReads(headers, {
    read,
    readAll() {
      read('cookie');
      read('authorization');
    },
  });
}

/** Parsed cookies, of which some are known. One read of them counts once, however many others are looked at. */
function cookiesBut(cookies: object, known: readonly string[], looks: CookieReads): object {
  let isCounted = false;
  const readAll = () => {
    if (!isCounted) looks.readParsed();
    isCounted = true;
  };
  const read = (name: string | symbol) => {
    if (typeof name === 'string' && !known.includes(name)) readAll();
  };
  return watchedReads(cookies, { read, readAll });
}

interface ReadListener {
  read(name: string | symbol): void;
  /** The names of all properties are read, as for a copy. */
  readAll(): void;
}

/** A Proxy, since an accessor for a property that does not exist would show in `in` and in copies. */
function watchedReads(watched: object, { read, readAll }: ReadListener): object {
  return new Proxy(watched, {
    get(target, name) {
      read(name);
      return Reflect.get(target, name) as unknown;
    },
    has(target, name) {
      read(name);
      return Reflect.has(target, name);
    },
    getOwnPropertyDescriptor(target, name) {
      read(name);
      return Reflect.getOwnPropertyDescriptor(target, name);
    },
    ownKeys(target) {
      readAll();
      return Reflect.ownKeys(target);
    },
  });
}
