import type { IncomingMessage } from 'node:http';
import type { CacheKeys, Keys } from '../../base/keys.ts';
import type { OwnPlace, Place } from '../store/entry-store.ts';
import { nameOfPath } from '../store/url-names.ts';
import { ALL } from '../store/versions.ts';
import { type CachedResponse, unpackResponse } from './cached-response.ts';
import type { RequestKey } from './request-key.ts';
import type { SearchRules } from './search-rules.ts';
import { type VaryMemory, variantId, varyValues } from './vary.ts';

/** What one `kit.cache` knows of the responses of each key: what they vary on, and which part of the query does not count. */
export interface ResponseMemory {
  readonly vary: VaryMemory;
  readonly rules: SearchRules;
}

/** Where the response to a request is kept. */
export class ResponsePlace implements Place<CachedResponse> {
  readonly #req: IncomingMessage;
  #key: RequestKey;
  readonly #memory: ResponseMemory;
  readonly #keys: Keys;
  #own: CacheKeys | undefined;

  constructor(req: IncomingMessage, key: RequestKey, memory: ResponseMemory, keys: Keys) {
    this.#req = req;
    this.#key = key;
    this.#memory = memory;
    this.#keys = keys;
  }

  get key(): RequestKey {
    return this.#key;
  }

  get keys(): CacheKeys {
    this.#own ??= this.#keys.cache(this.#key.id, this.#key.isSecret);
    return this.#own;
  }

  get names(): readonly string[] {
    const { url, custom, rule } = this.#key;
    // It may answer other URLs, by which it is invalidated as well.
    if (rule !== undefined) return [ALL, nameOfPath(url, this.#keys)];
    const names = [ALL, this.#keys.cacheName('url', url)];
    return custom === undefined ? names : [...names, this.#keys.cacheName('key', custom)];
  }

  localKey(): string {
    const names = this.variesOn();
    const id = this.#keys.scope + this.#key.id;
    return names === '' ? id : `${id}\n${names}\n${varyValues(names, this.#req.headers)}`;
  }

  variesOn(): string {
    return this.#memory.vary.of(this.#key.id);
  }

  get isKnownToVary(): boolean {
    return this.#memory.vary.isKnownToVary(this.#key.id);
  }

  learnVary(names: string): void {
    this.#memory.vary.learn(this.#key.id, names);
  }

  variantOf(names: string): string {
    return variantId(names, this.#req.headers);
  }

  /** Whether a stored response is the one for this request (RFC 9111, section 4.1). */
  isFor({ vary }: CachedResponse): boolean {
    return vary.names === '' || variantId(vary.names, this.#req.headers) === vary.id;
  }

  unpack(info: unknown, body: Buffer): CachedResponse | undefined {
    return unpackResponse(info, body);
  }

  /** The place of a new response is under its own rule, so that it answers no URL that it does not declare to be equal. */
  ownPlace({ rule }: CachedResponse): OwnPlace<CachedResponse> | undefined {
    this.#memory.rules.learn(this.#key, rule);
    const own = this.#key.under(rule);
    if (own.id === this.#key.id) return undefined;
    const place = new ResponsePlace(this.#req, own, this.#memory, this.#keys);
    // Requests that have an exact key in common are for one URL.
    return { place, isForAll: this.#key.rule === undefined };
  }

  move(): void {
    this.#key = this.#memory.rules.keyUnder(this.#key);
    this.#own = undefined;
  }

  /** The Redis key of the response to this very URL, whatever rule is known. */
  get exactEntry(): string {
    const { rule, exactId, isSecret } = this.#key;
    return rule === undefined ? this.keys.entry : this.#keys.cache(exactId, isSecret).entry;
  }
}
