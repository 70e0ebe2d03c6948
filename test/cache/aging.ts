import type { KitOptions, LocalOptions, RedisKit } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';
import { passTime, stopClock } from '../support/time.ts';

/** A kit whose cached responses grow older when a test says so, on either engine. */
export interface AgingKit {
  readonly kit: RedisKit;
  /** For `kit.cache`: nothing is held where the steady clock of this process would count. */
  readonly local: false | LocalOptions;
  pass(ms: number): Promise<void>;
}

export function agingKit(url: string, options: KitOptions = {}): AgingKit {
  stopClock();
  const kit = kitForTest({ ...options, url } as KitOptions);
  const pass = async (ms: number) => {
    // Behind what the kit itself has sent on its connection.
    await kit.client?.ping();
    await passTime(ms);
  };
  return { kit, local: url === 'memory:' ? {} : false, pass };
}
