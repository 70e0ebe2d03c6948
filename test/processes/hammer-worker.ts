/*
 * A process that calls a limiter without a pause and records the decisions. Its parent process orders over IPC which
 * limiter to call and for how long; the process exits with its parent.
 */
import { createRedisKit } from 'redis-kit';
import { connectPlainClient } from '../support/plain-client.ts';
import {
  CONTROL_SCRIPTS,
  type HammeredLimiter,
  LIMIT,
  type Order,
  type Report,
  WINDOW_MS,
} from './hammer.ts';

/** Takes one unit for an id; resolves to whether it was allowed. */
type Take = (id: string) => Promise<boolean>;

/** Each lane has a connection of its own, on which its calls follow one another. */
const LANES = ['a', 'b'] as const;

const [url = '', worker = ''] = process.argv.slice(2);

async function limiterOf(limiter: HammeredLimiter): Promise<{ readonly take: Take; close(): Promise<void> }> {
  return limiter === 'sliding-window' || limiter === 'token-bucket'
    ? kitLimiter(limiter)
    : controlLimiter(limiter);
}

async function kitLimiter(algorithm: 'sliding-window' | 'token-bucket') {
  const kit = createRedisKit({ url, prefix: 't-hammer', logger: false, commandTimeout: '1m' });
  const limiter = kit.limiter(
    algorithm === 'sliding-window'
      ? { algorithm, limit: LIMIT, window: WINDOW_MS }
      : { algorithm, capacity: LIMIT, refill: { tokens: LIMIT, per: WINDOW_MS } },
  );
  const take: Take = async (id) => {
    const { allowed, degraded } = await limiter.consume(id);
    if (degraded) throw new Error('the in-process fallback decided');
    return allowed;
  };
  return { take, close: () => kit.close() };
}

async function controlLimiter(name: 'fixed-window' | 'two-counters') {
  const client = await connectPlainClient(url);
  const sha = await client.scriptLoad(CONTROL_SCRIPTS[name]);
  const args = [String(LIMIT), String(WINDOW_MS)];
  const take: Take = async (id) =>
    (await client.evalSha(sha, { keys: [`t-hammer:${name}:{${id}}`], arguments: args })) === 1;
  return { take, close: async () => client.destroy() };
}

async function hammer({ limiter, forMs }: Order): Promise<Report> {
  const lanes = await Promise.all(
    LANES.map(async (lane) => {
      const { take, close } = await limiterOf(limiter);
      // The first call may have to load the script; the second one identifies the connection in MONITOR.
      await take(`lane-${worker}${lane}`);
      await take(`lane-${worker}${lane}`);
      return { lane: `${worker}${lane}`, take, close };
    }),
  );
  const end = performance.now() + forMs;
  return Promise.all(
    lanes.map(async ({ lane, take, close }) => {
      let allowed = '';
      while (performance.now() < end) allowed += (await take('all')) ? '1' : '0';
      await close();
      return { lane, allowed };
    }),
  );
}

process.once('disconnect', () => process.exit());
process.on('message', (order: Order) => {
  hammer(order).then(
    (report) => process.send?.(report),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
process.send?.('ready');
