import type { RedisKit } from '../../src/index.ts';
import { until } from '../support/until.ts';

/** Waits for a lock once, so that the kit is subscribed to the channel of its process. */
export async function subscribe(kit: RedisKit): Promise<void> {
  const held = await kit.locks.acquire('first');
  const next = kit.locks.acquire('first', { wait: '2m' });
  await until('it waits', async () => (await kit.locks.inspect('first')).waiters === 1);
  await held.release();
  await (await next).release();
}
