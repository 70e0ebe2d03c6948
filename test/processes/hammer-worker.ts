/*
 * One process of the hammer: tries without a rest, and remembers what it was answered. Whoever starts it says over IPC
 * what to hammer on and for how long; it ends with them.
 */
import { createRedisKit } from '../../src/index.ts';
import { connectPlainClient } from '../support/plain-client.ts';
import { CONTROL_SCRIPTS, type Hammered, LIMIT, type Order, type Report, WINDOW_MS } from './hammer.ts';

/** Tries for an id; answers whether it was granted. */
type Attempt = (id: string) => Promise<boolean>;

/** Each has a connection of its own, on which one try follows the other. */
const LANES = ['a', 'b'] as const;

const [url = '', name = ''] = process.argv.slice(2);

async function attemptsOf(what: Hammered): Promise<{ readonly attempt: Attempt; close(): Promise<void> }> {
  return what === 'sliding-window' || what === 'token-bucket' ? kitAttempts(what) : controlAttempts(what);
}

async function kitAttempts(algorithm: 'sliding-window' | 'token-bucket') {
  const kit = createRedisKit({ url, prefix: 't-hammer', logger: false, commandTimeout: '30s' });
  const limiter = kit.limiter(
    algorithm === 'sliding-window'
      ? { algorithm, limit: LIMIT, window: WINDOW_MS }
      : { algorithm, capacity: LIMIT, refill: { tokens: LIMIT, per: WINDOW_MS } },
  );
  const attempt: Attempt = async (id) => {
    const { allowed, degraded } = await limiter.consume(id);
    if (degraded) throw new Error('the server was not asked');
    return allowed;
  };
  return { attempt, close: () => kit.close() };
}

async function controlAttempts(what: 'fixed-window' | 'two-counters') {
  const client = await connectPlainClient(url);
  const sha = await client.scriptLoad(CONTROL_SCRIPTS[what]);
  const args = [String(LIMIT), String(WINDOW_MS)];
  const attempt: Attempt = async (id) =>
    (await client.evalSha(sha, { keys: [`t-hammer:${what}:{${id}}`], arguments: args })) === 1;
  return { attempt, close: async () => client.destroy() };
}

async function hammer({ what, forMs }: Order): Promise<Report> {
  const lanes = await Promise.all(
    LANES.map(async (lane) => {
      const { attempt, close } = await attemptsOf(what);
      // The first may have to load the script; the second shows which connection is which.
      await attempt(`lane-${name}${lane}`);
      await attempt(`lane-${name}${lane}`);
      return { lane: `${name}${lane}`, attempt, close };
    }),
  );
  const end = performance.now() + forMs;
  return Promise.all(
    lanes.map(async ({ lane, attempt, close }) => {
      let granted = '';
      while (performance.now() < end) granted += (await attempt('all')) ? '1' : '0';
      await close();
      return { lane, granted };
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
