import type { KitOptions, LocalOptions, RedisKit } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';
import { passTime, stopClock } from '../support/time.ts';

/** A kit on either engine whose stored responses grow older when a test says so. */
export interface AgingKit {
  readonly kit: RedisKit;
  /** Options of `kit.cache` without local copies, which would use the steady clock of this process. */
  readonly local: false | LocalOptions;
  pass(ms: number): Promise<void>;
}

export function agingKit(url: string, options: KitOptions = {}): AgingKit {
  stopClock();
  const kit = kitForTest({ ...options, url } as KitOptions);
  const pass = async (ms: number) => {
    // After the commands that the kit itself has sent on its connection.
    await kit.client?.ping();
    await passTime(ms);
  };
  return { kit, local: url === 'memory:' ? {} : false, pass };
}
