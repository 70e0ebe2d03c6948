import { describe } from '../../base/describe.ts';
import type { Duration } from '../../base/duration.ts';
import { asError, ConfigError, RedisKitError } from '../../base/errors.ts';
import type { CacheSubject } from '../../base/events.ts';
import type { Keys } from '../../base/keys.ts';
import type { Reporter } from '../../base/reporter.ts';
import type { CacheRoom, Lookup } from '../store/cache-room.ts';
import { type Entry, usabilityOf } from '../store/entry.ts';
import type { Place } from '../store/entry-store.ts';
import type { Fill } from '../store/fill.ts';
import type { CachePolicies } from '../store/policies.ts';
import { checkTags } from '../store/shared-options.ts';
import { ALL } from '../store/versions.ts';
import { followUnlessCyclic, runLoad } from './load-cycles.ts';
import { LoadSignal } from './load-signal.ts';
import {
  type RememberOptions,
  type RememberSettings,
  resolveRememberOptions,
  valueLifetime,
} from './remember-options.ts';

/** What a `load` function gets. */
export interface LoadContext {
  /** Aborts when nobody waits for the value any more: the kit was closed, or it took a minute. */
  readonly signal: AbortSignal;
  /** What the value may be invalidated by, where only the load knows it. */
  tag(...tags: string[]): void;
}

export type Load<Value> = (context: LoadContext) => Value | Promise<Value>;

interface LoadedValue {
  /** Its JSON; undefined for undefined, which is not stored. */
  readonly text: string | undefined;
  /** The names of its tags. */
  readonly tags: readonly string[];
}

export interface ValuesDeps {
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly values: CacheRoom<string>;
  readonly policies: CachePolicies;
  /** Aborts when the kit is closed. */
  readonly closing: AbortSignal;
}

/** Values of the app's own, kept as JSON. */
export class RememberedValues {
  readonly #deps: ValuesDeps;

  constructor(deps: ValuesDeps) {
    this.#deps = deps;
  }

  async remember<Value>(key: string, options: Duration | RememberOptions, load: Load<Value>): Promise<Value> {
    const { values, policies } = this.#deps;
    checkKey('kit.remember', key);
    const place = this.#placeOf(key);
    const settings = resolveRememberOptions('kit.remember', options, policies, values.shared);
    if (typeof load !== 'function') {
      throw new ConfigError(`kit.remember: the load is ${describe(load)}; it must be a function`);
    }
    const held = values.held(settings.lookup, place.localKey());
    if (held !== undefined && usabilityOf(held, values.now()) === 'fresh') {
      this.#told('cache:hit', key);
      return JSON.parse(held.content) as Value;
    }
    const lookup: Lookup<string> = { place, accepts: () => true, follow: followUnlessCyclic };
    const answer = await values.obtain(lookup, settings.lookup);
    if (answer.how !== 'make') {
      this.#told(`cache:${answer.how}`, key);
      if (answer.how === 'stale') void this.#refresh(key, settings, answer.refresh, load);
      return parsed(answer.entry.content) as Value;
    }
    this.#told('cache:miss', key);
    return parsed(await this.#make(key, settings, answer.fill, answer.fallback, load)) as Value;
  }

  /** Loads and stores a value whatever is stored; false when it was not stored. Rejects when the load fails. */
  async renew(where: string, key: string, options: RememberOptions, load: Load<unknown>): Promise<boolean> {
    checkKey(where, key);
    const place = this.#placeOf(key);
    const { values, policies } = this.#deps;
    const settings = resolveRememberOptions(where, options, policies, values.shared);
    const fill = await values.fillOf({ place, accepts: () => true }, settings.lookup);
    const loaded = await this.#load(load, settings);
    return (await this.#keep(key, settings, fill, loaded)) !== undefined;
  }

  async #refresh(
    key: string,
    settings: RememberSettings,
    begin: (() => Promise<Fill<string>>) | undefined,
    load: Load<unknown>,
  ): Promise<void> {
    if (begin === undefined) return;
    try {
      await this.#make(key, settings, await begin(), undefined, load);
    } catch (error) {
      // Nobody waits for it: what is stale was returned.
      this.#deps.reporter.failure('cache', asError(error));
    }
  }

  /** The JSON of the value, as everybody gets it; undefined for undefined, which is not stored. */
  async #make(
    key: string,
    settings: RememberSettings,
    fill: Fill<string>,
    fallback: Entry<string> | undefined,
    load: Load<unknown>,
  ): Promise<string | undefined> {
    try {
      const loaded = await runLoad(key, fill.flight, () => this.#load(load, settings));
      void this.#keep(key, settings, fill, loaded);
      return loaded.text;
    } catch (error) {
      if (fallback === undefined) fill.fail(error);
      if (fallback === undefined || !fill.fallBackOn(fallback)) throw error;
      this.#deps.reporter.failure('cache', asError(error));
      this.#told('cache:stale', key);
      return fallback.content;
    }
  }

  async #load(load: Load<unknown>, settings: RememberSettings): Promise<LoadedValue> {
    const tags = [...settings.tags];
    const { keys, closing } = this.#deps;
    const signal = new LoadSignal(closing);
    try {
      const value = await load({
        get signal() {
          return signal.signal;
        },
        tag: (...more) => void tags.push(...checkTags('context.tag: the tags', more)),
      });
      // Throws for a value that JSON has no form for: the caller of the load is to know.
      const text = JSON.stringify(value) as string | undefined;
      return { text, tags: tags.map((tag) => keys.cacheName('tag', tag)) };
    } finally {
      signal.end();
    }
  }

  /** Stores a value where it may be stored, and ends its fill; resolves to its size, or undefined when it was not stored. */
  async #keep(
    key: string,
    settings: RememberSettings,
    fill: Fill<string>,
    { text, tags }: LoadedValue,
  ): Promise<number | undefined> {
    if (text === undefined) {
      // The next load may find a value, so no hit-for-miss marker is set.
      fill.share('');
      return this.#skipped(key, 'undefined');
    }
    if (Buffer.byteLength(text) > settings.maxBytes) {
      fill.pass(text);
      // An older value must not be returned after this one.
      void this.#deps.values.drop(this.#placeOf(key), settings.lookup);
      return this.#skipped(key, 'too-large');
    }
    return this.#store(key, settings, fill, text, tags);
  }

  #skipped(key: string, reason: string): undefined {
    this.#deps.reporter.events.emit('cache:skipped', { key, reason });
  }

  async #store(
    key: string,
    settings: RememberSettings,
    fill: Fill<string>,
    text: string,
    tags: readonly string[],
  ): Promise<number | undefined> {
    const { bound } = settings;
    const rest = { info: 'value', variesOn: '', maxVariants: 1, bound };
    const made = { content: text, body: Buffer.from(text), lifetime: valueLifetime(settings), tags, ...rest };
    const bytes = await fill.store(made);
    if (bytes !== undefined) this.#deps.reporter.events.emit('cache:stored', { key, bytes });
    return bytes;
  }

  #placeOf(key: string): Place<string> {
    const { keys } = this.#deps;
    const own = keys.remembered(key);
    return {
      keys: own,
      names: [ALL, keys.cacheName('key', key)],
      localKey: () => own.entry,
      variesOn: () => '',
      learnVary: () => undefined,
      variantOf: () => '',
      unpack: (info, body) => (info === 'value' ? jsonOf(body) : undefined),
    };
  }

  #told(event: 'cache:hit' | 'cache:miss' | 'cache:stale' | 'cache:collapsed', key: string): void {
    const subject: CacheSubject = { key };
    this.#deps.reporter.events.emit(event, subject);
  }
}

/** Each caller gets a value of its own, as from Redis: what one changes in it is not everybody's. */
function parsed(text: string | undefined): unknown {
  return text === undefined || text === '' ? undefined : JSON.parse(text);
}

function checkKey(where: string, key: unknown): void {
  if (typeof key === 'string' && key !== '') return;
  throw new RedisKitError(
    'ERR_REDIS_KIT_NO_IDENTITY',
    `${where}: the key is ${describe(key)}; it must be a string that is not empty`,
  );
}

function jsonOf(body: Buffer): string | undefined {
  const text = body.toString();
  try {
    JSON.parse(text);
    return text;
  } catch {
    return undefined;
  }
}
