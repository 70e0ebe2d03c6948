/*
 * A process that calls limiters, each in several loops, until it is killed or its parent disconnects, and reports the
 * allowed calls while it runs, so that a killed process has reported most of its calls.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { createRedisKit } from 'redis-kit';
import { type AheadCall, type AheadOrder, type AheadReport, optionsOf } from './ahead-hammer.ts';

const LOOPS = 8;

const [url = ''] = process.argv.slice(2);

const steadyMs = () => Number(process.hrtime.bigint()) / 1_000_000;

async function hammer(order: AheadOrder): Promise<void> {
  const own = order.limiter === 'apart' ? 'memory:' : url;
  const kit = createRedisKit({ url: own, prefix: order.prefix, logger: false, commandTimeout: '1m' });
  await kit.ready();
  const { limiter } = kit.rateLimit(optionsOf(order));
  let calls: AheadCall[] = [];
  const loop = async () => {
    for (;;) {
      const before = steadyMs();
      const { allowed, degraded } = await limiter.consume('all');
      if (degraded) throw new Error('the in-process fallback decided');
      if (allowed) calls.push([before, steadyMs()]);
      // A limiter in memory would otherwise never let other work run.
      else await pause(1);
    }
  };
  setInterval(() => {
    const report: AheadReport = { prefix: order.prefix, calls };
    process.send?.(report);
    calls = [];
  }, 10);
  await Promise.all(Array.from({ length: LOOPS }, loop));
}

process.once('disconnect', () => process.exit());
process.on('message', (orders: readonly AheadOrder[]) => {
  Promise.all(orders.map(hammer)).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
});
process.send?.('ready');
