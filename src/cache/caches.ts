import type { ChannelListener, PubSub } from '../engine/pub-sub.ts';
import { WakeUps } from '../waiting/wake-ups.ts';
import { type CachedResponse, RESPONSE_MEMORY } from './http/cached-response.ts';
import { EntryCache } from './store/entry-cache.ts';
import { EntryStore } from './store/entry-store.ts';
import { LocalState } from './store/local-state.ts';
import { type CacheEnvironment, KnownVersions, Versions } from './store/versions.ts';

const MEBIBYTE = 2 ** 20;

/** The most bytes for all local copies of values, and for those of responses whose cache has no `maxBytes`. */
const LOCAL_RESPONSES = 64 * MEBIBYTE;
const LOCAL_VALUES = 16 * MEBIBYTE;

const TEXT_MEMORY = { detach: (text: string) => text, addedBytes: () => 0 };

/** The caches' state in this process, for a kit and its namespaces. Subscribes to the cache channel when created. */
export class CacheMemory {
  readonly known: KnownVersions = new KnownVersions();
  readonly wakeUps: WakeUps = new WakeUps();
  readonly responses: LocalState<CachedResponse> = new LocalState(LOCAL_RESPONSES, RESPONSE_MEMORY);
  readonly values: LocalState<string> = new LocalState(LOCAL_VALUES, TEXT_MEMORY);

  constructor(pubSub: PubSub, channel: string) {
    pubSub.subscribe(channel, cacheChannelListener(this.known, this.wakeUps));
  }
}

/** The stored responses and the cached values of one namespace, which are invalidated together. */
export class Caches {
  readonly versions: Versions;
  readonly responses: EntryCache<CachedResponse>;
  readonly values: EntryCache<string>;

  constructor(env: CacheEnvironment, { known, wakeUps, responses, values }: CacheMemory) {
    this.versions = new Versions(env, known);
    const store = new EntryStore(env, this.versions);
    this.responses = new EntryCache(store, wakeUps, responses);
    this.values = new EntryCache(store, wakeUps, values);
  }
}

/**
 * Receives the messages of the cache channel. `["purged", sequence, soft 0 or 1, scope, names]` is a purge by any
 * process, `["filled", fill key]` is the end of a fill, which wakes the lookups of this process that wait for the fill.
 */
function cacheChannelListener(known: KnownVersions, wakeUps: WakeUps): ChannelListener {
  return {
    onMessage(message) {
      const [kind, first, second, scope, names] = parse(message);
      if (kind === 'filled') wakeUps.wake(String(first));
      else if (kind === 'purged' && typeof scope === 'string' && Array.isArray(names)) {
        known.recordPurge(scope, Number(first), second === 1, names.map(String));
      }
    },
    onStatus(isUp) {
      known.listenerChanged(isUp);
      wakeUps.listenerChanged(isUp);
    },
  };
}

/** The fields of a message; none if its format is another one, since any Redis client can publish on the channel. */
function parse(message: string): readonly unknown[] {
  try {
    const fields: unknown = JSON.parse(message);
    return Array.isArray(fields) ? fields : [];
  } catch {
    return [];
  }
}
