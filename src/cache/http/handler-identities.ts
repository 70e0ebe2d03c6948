import type { IncomingMessage, ServerResponse } from 'node:http';
import { IdentityWatch } from '../../http/identity/identity-watch.ts';
import type { CacheSettings } from './options.ts';
import { type HandlerHead, isForAll } from './storable.ts';
import { varyNames } from './vary.ts';

type Settings = Pick<CacheSettings, 'key' | 'identities'>;

/** Decides whether a response depends on whose request it answers in a way that its key does not name. */
export class HandlerIdentities {
  readonly #settings: Settings;
  readonly #watch: IdentityWatch;
  readonly #hasCredentials: boolean;

  constructor(req: IncomingMessage, res: ServerResponse, settings: Settings) {
    const { key, identities } = settings;
    this.#settings = settings;
    this.#hasCredentials = req.headers.authorization !== undefined;
    this.#watch = new IdentityWatch(req, res, { identities, knownCookies: key.cookies });
  }

  stop(): void {
    this.#watch.stop();
  }

  /** Why the response is not stored, in the words of `cache:skipped`; undefined when no identity forbids it. */
  reasonNotToStore(head: HandlerHead): string | undefined {
    const { readsSession, readsCookies, readsAuthorization } = this.#watch;
    if (readsSession && this.#settings.key.session === undefined) return 'session-read';
    if (readsCookies && !this.#isCovered('cookie', head)) return 'cookie-read';
    if (!isForAll(head.directives)) {
      // It answers no request that has the field (RFC 9111, section 3.5): for the others a read gives the same.
      return this.#hasCredentials && !this.#isKeyedBy('authorization') ? 'authorization' : undefined;
    }
    return readsAuthorization && !this.#isCovered('authorization', head) ? 'authorization-read' : undefined;
  }

  #isCovered(field: string, { headers }: HandlerHead): boolean {
    return this.#isKeyedBy(field) || varyNames(headers).split(',').includes(field);
  }

  #isKeyedBy(field: string): boolean {
    return this.#settings.key.headers.includes(field);
  }
}
