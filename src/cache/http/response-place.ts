import type { IncomingMessage } from 'node:http';
import type { CacheKeys, Keys } from '../../base/keys.ts';
import type { EntryKey } from '../store/entry-store.ts';
import { ALL } from '../store/versions.ts';
import { type CachedResponse, unpackResponse } from './cached-response.ts';
import type { RequestKey } from './request-key.ts';
import { type VaryMemory, variantId, varyValues } from './vary.ts';

/** Where the response to a request is kept. */
export class ResponsePlace implements EntryKey<CachedResponse> {
  readonly #req: IncomingMessage;
  readonly #key: RequestKey;
  readonly #vary: VaryMemory;
  readonly #keys: Keys;
  #own: CacheKeys | undefined;

  constructor(req: IncomingMessage, key: RequestKey, vary: VaryMemory, keys: Keys) {
    this.#req = req;
    this.#key = key;
    this.#vary = vary;
    this.#keys = keys;
  }

  get redisKeys(): CacheKeys {
    this.#own ??= this.#keys.cache(this.#key.id, this.#key.isSecret);
    return this.#own;
  }

  get names(): readonly string[] {
    const { url, custom } = this.#key;
    const names = [ALL, this.#keys.cacheName('url', url)];
    return custom === undefined ? names : [...names, this.#keys.cacheName('key', custom)];
  }

  localKey(): string {
    const names = this.variesOn();
    const id = this.#keys.scope + this.#key.id;
    return names === '' ? id : `${id}\n${names}\n${varyValues(names, this.#req.headers)}`;
  }

  variesOn(): string {
    return this.#vary.of(this.#key.id);
  }

  get isKnownToVary(): boolean {
    return this.#vary.isKnownToVary(this.#key.id);
  }

  learnVary(names: string): void {
    this.#vary.learn(this.#key.id, names);
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
}
