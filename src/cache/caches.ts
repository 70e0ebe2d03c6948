import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Listening } from '../engine/listening.ts';
import type { Engine } from '../engine/port.ts';
import { WakeUps } from '../engine/wake-ups.ts';
import { CacheRoom } from './cache-room.ts';
import { type CachedResponse, detachedResponse } from './cached-response.ts';
import { hearing } from './hearing.ts';
import { Versions } from './versions.ts';

const MEBIBYTE = 2 ** 20;

/** Bytes of copies held here by all who set no bounds of their own. */
const LOCAL_RESPONSES = 64 * MEBIBYTE;
const LOCAL_VALUES = 16 * MEBIBYTE;

export interface CachesDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly listening: Listening;
  readonly reporter: Reporter;
  readonly now: () => number;
}

/** The caches of a kit: of responses and of values, invalidated together. */
export class Caches {
  readonly versions: Versions;
  readonly responses: CacheRoom<CachedResponse>;
  readonly values: CacheRoom<string>;

  constructor(deps: CachesDeps) {
    const wakeUps = new WakeUps();
    this.versions = new Versions(deps);
    const rooms = { ...deps, versions: this.versions, wakeUps };
    this.responses = new CacheRoom(rooms, LOCAL_RESPONSES, detachedResponse);
    this.values = new CacheRoom(rooms, LOCAL_VALUES, (text) => text);
    deps.listening.subscribe(
      deps.keys.cacheChannel(),
      hearing(this.versions, wakeUps, () => {
        this.responses.forgetCopies();
        this.values.forgetCopies();
      }),
    );
  }
}
