import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Engine } from '../engine/port.ts';
import type { PubSub } from '../engine/pub-sub.ts';
import { WakeUps } from '../waiting/wake-ups.ts';
import { type CachedResponse, detachedResponse } from './http/cached-response.ts';
import { CacheRoom } from './store/cache-room.ts';
import { hearing } from './store/hearing.ts';
import { RoomMemory } from './store/room-memory.ts';
import { KnownVersions, Versions } from './store/versions.ts';

const MEBIBYTE = 2 ** 20;

/** Bytes of copies held here by all caches that set no bounds of their own. */
const LOCAL_RESPONSES = 64 * MEBIBYTE;
const LOCAL_VALUES = 16 * MEBIBYTE;

/** The state that the caches of a kit and of its namespaces hold in this process, within common bounds. Subscribes when it is created. */
export class CacheMemory {
  readonly known: KnownVersions = new KnownVersions();
  readonly wakeUps: WakeUps = new WakeUps();
  readonly responses: RoomMemory<CachedResponse> = new RoomMemory(LOCAL_RESPONSES, detachedResponse);
  readonly values: RoomMemory<string> = new RoomMemory(LOCAL_VALUES, (text) => text);

  constructor(pubSub: PubSub, channel: string) {
    pubSub.subscribe(channel, hearing(this.known, this.wakeUps));
  }
}

export interface CachesDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly now: () => number;
}

/** The caches of one namespace: of responses and of values, invalidated together. */
export class Caches {
  readonly versions: Versions;
  readonly responses: CacheRoom<CachedResponse>;
  readonly values: CacheRoom<string>;

  constructor(deps: CachesDeps, { known, wakeUps, responses, values }: CacheMemory) {
    this.versions = new Versions({ ...deps, known });
    const rooms = { ...deps, versions: this.versions, wakeUps };
    this.responses = new CacheRoom(rooms, responses);
    this.values = new CacheRoom(rooms, values);
  }
}
