import { describe } from '../../base/describe.ts';
import { checkedDuration, type Duration } from '../../base/duration.ts';
import { asError, ConfigError, RedisKitError } from '../../base/errors.ts';
import { jsonIfDefined } from '../../base/json.ts';
import type { Keys } from '../../base/keys.ts';
import type { Reporter } from '../../base/reporter.ts';
import type { RequestDeadlines } from '../../engine/deadline.ts';
import { type Entry, usabilityOf } from '../store/entry.ts';
import type { EntryCache } from '../store/entry-cache.ts';
import type { EntryKey } from '../store/entry-key.ts';
import type { Fill } from '../store/fill.ts';
import type { LookupResult, LookupSettings } from '../store/lookup.ts';
import { type CachePolicies, checkTags } from '../store/options.ts';
import { ALL } from '../store/versions.ts';
import { followUnlessCyclic, runLoader } from './loader-cycles.ts';
import { LoaderSignal } from './loader-signal.ts';
import { type RememberOptions, type RememberSettings, resolveRememberOptions } from './remember-options.ts';
import { jsonTextIn, parsed, valueLifetime } from './stored-value.ts';

/** The argument with which kit.remember and kit.warm call a loader. */
export interface LoaderContext<Stale = unknown> {
  /**
   * The stale value that a refresh replaces, so that the loader can revalidate it and return it again. Undefined if no
   * value is stored that `staleWhileRevalidate`, `staleIfError` or a soft purge keeps.
   */
  readonly stale: Stale | undefined;
  /** Aborts after a minute, when concurrent callers have stopped waiting for the value, and when the kit is closed. */
  readonly signal: AbortSignal;
  /** Adds tags by which the value can be invalidated. */
  tag(...tags: string[]): void;
  /**
   * Sets how long the value stays fresh, in place of the option `ttl`; `jitter` shortens it too. The last call counts.
   * Throws a ConfigError for an argument that is no Duration.
   */
  ttl(duration: Duration): void;
}

/** A function of the app that returns the value to cache. */
export type Loader<Value, Stale = unknown> = (context: LoaderContext<Stale>) => Value | Promise<Value>;

interface LoadedValue {
  /** The value as JSON; undefined for a value of undefined, which is not stored. */
  readonly text: string | undefined;
  /** The invalidation names of the tags of the value. */
  readonly names: readonly string[];
  /** How long the value stays fresh, before `jitter`. */
  readonly ttlMs: number;
}

export interface ValuesDeps {
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly deadlines: RequestDeadlines;
  readonly values: EntryCache<string>;
  readonly policies: CachePolicies;
  /** Aborts when the kit is closed. */
  readonly closing: AbortSignal;
}

/** One call of kit.remember, or one entry of kit.warm. */
interface ValueRequest {
  readonly key: string;
  readonly entryKey: EntryKey<string>;
  readonly settings: RememberSettings;
  readonly lookup: LookupSettings<string>;
  readonly loader: Loader<unknown, never>;
}

/** The stored entry that a loader replaces, if there is one. */
interface StaleEntries {
  /** The entry, if it may be used when the loader fails. */
  readonly fallback?: Entry<string> | undefined;
  /** The entry that the loader may revalidate. Default: the fallback. */
  readonly stale?: Entry<string> | undefined;
}

/** The cached values of kit.remember, kept as JSON. */
export class RememberedValues {
  readonly #deps: ValuesDeps;

  constructor(deps: ValuesDeps) {
    this.#deps = deps;
  }

  async remember<Value, Stale>(
    key: string,
    options: Duration | RememberOptions,
    loader: Loader<Value, Stale>,
  ): Promise<Value> {
    const { values } = this.#deps;
    const request = this.#requestOf('kit.remember', key, options, loader);
    if (typeof loader !== 'function') {
      throw new ConfigError(`kit.remember: the load is ${describe(loader)}; it must be a function`);
    }
    const { entryKey, lookup } = request;
    const copy = values.localCopy(lookup, entryKey.localKey());
    if (copy !== undefined && usabilityOf(copy, values.now()) === 'fresh') {
      this.#emit('hit', key);
      return JSON.parse(copy.content) as Value;
    }
    const deadline = this.#deps.deadlines.ofCall();
    const result = await values.lookUp(
      { key: entryKey, accepts: () => true, follow: followUnlessCyclic, deadline },
      lookup,
    );
    this.#emit(result.kind, key);
    if (result.kind === 'miss') {
      return parsed(await this.#loadInto(result.fill, request, result)) as Value;
    }
    if (result.kind === 'stale' && result.refresh !== undefined)
      void this.#refresh(request, result.entry, result.refresh);
    return parsed(result.entry.content) as Value;
  }

  /**
   * Loads a value and replaces the stored one. Resolves to whether it was stored, and rejects when the loader fails.
   * Throws for invalid options.
   */
  loadAndStore(
    where: string,
    key: string,
    options: RememberOptions,
    loader: Loader<unknown, never>,
  ): Promise<boolean> {
    return this.#replace(this.#requestOf(where, key, options, loader));
  }

  async #replace(request: ValueRequest): Promise<boolean> {
    const fill = await this.#deps.values.beginFill(
      { key: request.entryKey, accepts: () => true },
      request.lookup,
    );
    const loaded = await this.#load(request, [...request.settings.tags], undefined);
    return (await this.#endFill(fill, request, loaded)) !== undefined;
  }

  #requestOf(
    where: string,
    key: string,
    options: Duration | RememberOptions,
    loader: Loader<unknown, never>,
  ): ValueRequest {
    const { values, policies } = this.#deps;
    checkKey(where, key);
    const settings = resolveRememberOptions(where, options, policies);
    return { key, entryKey: this.#entryKeyOf(key), settings, lookup: values.settingsOf(settings), loader };
  }

  async #refresh(
    request: ValueRequest,
    stale: Entry<string>,
    beginFill: () => Promise<Fill<string>>,
  ): Promise<void> {
    try {
      await this.#loadInto(await beginFill(), request, { stale });
    } catch (error) {
      // A refresh runs in the background: the caller of kit.remember already has the stale value.
      this.#deps.reporter.failure('cache', asError(error));
    }
  }

  /** Loads a value and ends the fill. Resolves to the JSON of the value, or of the fallback if the loader fails. */
  async #loadInto(
    fill: Fill<string>,
    request: ValueRequest,
    { fallback, stale = fallback }: StaleEntries,
  ): Promise<string | undefined> {
    const { key } = request;
    const tags = [...request.settings.tags];
    try {
      const loaded = await runLoader(key, fill.flight, () => this.#load(request, tags, stale));
      void this.#endFill(fill, request, loaded);
      return loaded.text;
    } catch (error) {
      if (fallback === undefined) fill.fail(error, this.#namesOf(tags));
      if (fallback === undefined || !fill.fallBackOn(fallback)) throw error;
      this.#deps.reporter.failure('cache', asError(error));
      this.#emit('stale', key);
      return fallback.content;
    }
  }

  /** Runs the loader, which can add to `tags`. */
  async #load(
    { key, loader, settings }: ValueRequest,
    tags: string[],
    stale: Entry<string> | undefined,
  ): Promise<LoadedValue> {
    let ttlMs = settings.ttl;
    const signal = new LoaderSignal(this.#deps.closing);
    try {
      const value = await loader({
        get signal() {
          return signal.signal;
        },
        get stale() {
          // The app states the type of its value, as for the result of kit.remember.
          return parsed(stale?.content) as never;
        },
        ttl: (duration) => {
          ttlMs = checkedDuration('context.ttl', duration);
        },
        tag: (...added) => void tags.push(...checkTags('context.tag: the tags', added)),
      });
      // Throws for a value that JSON cannot represent, as if the loader had failed.
      const text = jsonIfDefined(`kit.remember: the value of the key '${key}'`, value);
      return { text, names: this.#namesOf(tags), ttlMs };
    } finally {
      signal.end();
    }
  }

  /** Ends a fill, and stores the value unless it is undefined or too large. Resolves to the bytes stored, if any. */
  async #endFill(
    fill: Fill<string>,
    { key, entryKey, settings, lookup }: ValueRequest,
    { text, names, ttlMs }: LoadedValue,
  ): Promise<number | undefined> {
    if (text === undefined) {
      // No hit-for-miss marker is set, since the next run of the loader may return a value.
      fill.endUnstored({ content: '', names });
      return this.#skipped(key, 'undefined');
    }
    if (Buffer.byteLength(text) > settings.maxBytes) {
      fill.endAsHitForMiss({ content: text, names });
      // An older value must not be returned after this newer one.
      void this.#deps.values.delete(entryKey, lookup);
      return this.#skipped(key, 'too-large');
    }
    const bytes = await fill.store({
      content: text,
      info: 'value',
      body: Buffer.from(text),
      lifetime: valueLifetime(ttlMs, settings),
      names,
      variesOn: '',
      maxVariants: 1,
      policy: settings.policy,
    });
    if (bytes !== undefined) this.#deps.reporter.events.emit('cache:stored', { key, bytes });
    return bytes;
  }

  #namesOf(tags: readonly string[]): readonly string[] {
    return tags.map((tag) => this.#deps.keys.cacheName('tag', tag));
  }

  #skipped(key: string, reason: string): undefined {
    this.#deps.reporter.events.emit('cache:skipped', { key, reason });
  }

  #entryKeyOf(key: string): EntryKey<string> {
    const { keys } = this.#deps;
    const redisKeys = keys.remembered(key);
    return {
      redisKeys,
      names: [ALL, keys.cacheName('key', key)],
      localKey: () => redisKeys.entry,
      variesOn: () => '',
      learnVary: () => undefined,
      variantOf: () => '',
      unpack: (info, body) => (info === 'value' ? jsonTextIn(body) : undefined),
    };
  }

  #emit(kind: LookupResult<string>['kind'], key: string): void {
    this.#deps.reporter.events.emit(`cache:${kind}`, { key });
  }
}

function checkKey(where: string, key: unknown): void {
  if (typeof key === 'string' && key !== '') return;
  throw new RedisKitError(
    'ERR_REDIS_KIT_NO_IDENTITY',
    `${where}: the key is ${describe(key)}; it must be a string that is not empty`,
  );
}
