import type { IncomingMessage } from 'node:http';
import type { CacheKeys, Keys } from '../../base/keys.ts';
import type { DeclaredKey, EntryKey } from '../store/entry-key.ts';
import { ALL } from '../store/versions.ts';
import { type CachedResponse, unpackResponse } from './cached-response.ts';
import { pathName, urlName } from './invalidation.ts';
import type { KeySettings } from './key-options.ts';
import { type RequestKey, requestKey, SearchRules } from './request-key.ts';
import { VaryMemory, variantId, varyValues } from './vary.ts';

/** The Vary names and No-Vary-Search rules that one `kit.cache` has seen in responses, by key. */
export class ResponseMemory {
  readonly vary: VaryMemory = new VaryMemory();
  readonly rules: SearchRules = new SearchRules();
}

/** The key of the stored response to a request: the cache key, and the variant that the request headers select. */
export class ResponseKey implements EntryKey<CachedResponse> {
  readonly #req: IncomingMessage;
  #request: RequestKey;
  readonly #memory: ResponseMemory;
  readonly #keys: Keys;
  #redisKeys: CacheKeys | undefined;

  constructor(req: IncomingMessage, request: RequestKey, memory: ResponseMemory, keys: Keys) {
    this.#req = req;
    this.#request = request;
    this.#memory = memory;
    this.#keys = keys;
  }

  /** The cache key. `update()` may replace it. */
  get request(): RequestKey {
    return this.#request;
  }

  get redisKeys(): CacheKeys {
    this.#redisKeys ??= this.#keys.cache(this.#request.id, this.#request.isSecret);
    return this.#redisKeys;
  }

  get names(): readonly string[] {
    const { url, custom, answersSeveralUrls } = this.#request;
    // An invalidation by URL purges the name of the path as well, so that it reaches a response by any of its URLs.
    const names = [ALL, answersSeveralUrls ? pathName(url, this.#keys) : urlName(url, this.#keys)];
    return custom === undefined ? names : [...names, this.#keys.cacheName('key', custom)];
  }

  localKey(): string {
    const names = this.variesOn();
    const { id } = this.#request;
    if (names === '') return this.#keys.scope + id;
    // The id is the end, since the result of a `key` function may contain line breaks. No other id begins with one.
    return `${this.#keys.scope}\n${names}\n${varyValues(names, this.#req.headers)}\n${id}`;
  }

  variesOn(): string {
    return this.#memory.vary.of(this.#request.id);
  }

  get isKnownToVary(): boolean {
    return this.#memory.vary.isKnownToVary(this.#request.id);
  }

  learnVary(names: string): void {
    this.#memory.vary.learn(this.#request.id, names);
  }

  variantOf(names: string): string {
    return variantId(names, this.#req.headers);
  }

  /** Whether the request headers select this stored response by its Vary (RFC 9111, section 4.1). */
  selects({ vary }: CachedResponse): boolean {
    return vary.names === '' || variantId(vary.names, this.#req.headers) === vary.id;
  }

  unpack(info: unknown, body: Buffer): CachedResponse | undefined {
    return unpackResponse(info, body);
  }

  /** A response is stored under its declared rule, so that it answers only URLs that the rule makes equivalent. */
  declaredKey({ rule }: CachedResponse): DeclaredKey<CachedResponse> | undefined {
    this.#memory.rules.learn(this.#request, rule);
    const declared = this.#request.under(rule);
    if (declared.id === this.#request.id) return undefined;
    const key = new ResponseKey(this.#req, declared, this.#memory, this.#keys);
    // Followers under an exact key requested the same URL, so the response may answer all of them.
    return { key, servesFollowers: this.#request.rule === undefined };
  }

  update(): void {
    this.#request = this.#memory.rules.keyUnder(this.#request);
    this.#redisKeys = undefined;
  }

  /** The Redis key that the response has without a No-Vary-Search rule. */
  get exactEntryKey(): string {
    const { rule, exactId, isSecret } = this.#request;
    return rule === undefined ? this.redisKeys.entry : this.#keys.cache(exactId, isSecret).entry;
  }

  /** The key under which a part of the response is stored. */
  ofPart(): ResponseKey {
    return new ResponseKey(this.#req, this.#request.ofPart(), this.#memory, this.#keys);
  }
}

/** The key of a request under the No-Vary-Search rule known for its path; undefined if it must bypass the cache. */
export function responseKey(
  req: IncomingMessage,
  settings: KeySettings,
  memory: ResponseMemory,
  keys: Keys,
): ResponseKey | undefined {
  const exact = requestKey(req, settings);
  return exact && keyUnderRules(req, exact, memory, keys);
}

/** The key of a request under the No-Vary-Search rule known for its path. `exact` is its key without a rule. */
export function keyUnderRules(
  req: IncomingMessage,
  exact: RequestKey,
  memory: ResponseMemory,
  keys: Keys,
): ResponseKey {
  return new ResponseKey(req, memory.rules.keyUnder(exact), memory, keys);
}
