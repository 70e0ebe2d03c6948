import type { IncomingMessage } from 'node:http';
import type { Entry } from '../store/entry.ts';
import type { CachedResponse } from './cached-response.ts';
import type { CacheSettings } from './options.ts';
import { type RequestDirectives, requestDirectives } from './request-directives.ts';

type Request = Pick<IncomingMessage, 'headers'>;

/** Which stored responses may answer a request, apart from their place. */
export class Acceptance {
  readonly #settings: Pick<CacheSettings, 'key' | 'honorsDirectives'>;
  readonly #now: () => number;

  constructor(settings: Pick<CacheSettings, 'key' | 'honorsDirectives'>, now: () => number) {
    this.#settings = settings;
    this.#now = now;
  }

  /** What the client says in Cache-Control, where that is honored. */
  directivesOf({ headers }: Request): RequestDirectives | undefined {
    return this.#settings.honorsDirectives ? requestDirectives(headers) : undefined;
  }

  accepts(req: Request, entry: Entry<CachedResponse>): boolean {
    if (!this.mayAnswer(req, entry.content)) return false;
    return this.directivesOf(req)?.accepts(entry, this.#now()) ?? true;
  }

  /** RFC 9111, section 3.5. */
  mayAnswer(req: Request, { isForAll }: CachedResponse): boolean {
    return isForAll || !this.hasOwnCredentials(req);
  }

  /** Whether a request has credentials that are not part of the key. */
  hasOwnCredentials({ headers }: Request): boolean {
    return headers.authorization !== undefined && !this.#settings.key.headers.includes('authorization');
  }
}
