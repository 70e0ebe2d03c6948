import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  type AheadCall,
  type AheadLimiter,
  type AheadOrder,
  type AheadReport,
  LIMIT,
  UNITS,
  WINDOW_MS,
} from '../processes/ahead-hammer.ts';
import { describeWithServers } from '../support/context.ts';
import { startWorkers } from '../support/program.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';

type Calls = readonly AheadCall[];

/** The calls of a limiter that the processes hammer on before and after the kill. */
const ENOUGH = 3 * LIMIT;

const CASES = [
  ['reserve', 'sliding-window'],
  ['reserve', 'token-bucket'],
  ['wait', 'sliding-window'],
  ['wait', 'token-bucket'],
  ['apart', 'sliding-window'],
] as const;

let server: RedisServer;
let callsOf: (limiter: AheadLimiter, algorithm: AheadOrder['algorithm']) => Calls;

/**
 * Lets four processes call the same limiters until each limiter has allowed enough calls, kills one of the processes
 * without warning, and lets the others go on until each limiter has allowed as many calls again.
 */
async function hammer(orders: readonly AheadOrder[]): Promise<ReadonlyMap<string, AheadCall[]>> {
  const workers = await startWorkers('test/processes/ahead-worker.ts', Array(4).fill([server.url]));
  const calls = new Map<string, AheadCall[]>(orders.map(({ prefix }) => [prefix, []]));
  const exits: number[] = [];
  for (const worker of workers) {
    worker.on('message', (report: AheadReport) => void calls.get(report.prefix)?.push(...report.calls));
    worker.on('exit', (code) => void (code === null || exits.push(code)));
    worker.send(orders);
  }
  const allHave = (count: number) => [...calls.values()].every(({ length }) => length >= count);
  await until('enough calls were allowed', () => allHave(ENOUGH));
  workers[0]?.kill('SIGKILL');
  await until('enough calls were allowed again', () => allHave(2 * ENOUGH));
  for (const worker of workers) worker.kill();
  expect(exits, 'workers that failed').toEqual([]);
  return calls;
}

/** The most calls that certainly fall into one window. A millisecond is the resolution of the server's clock. */
function mostInAWindow(calls: Calls): number {
  const byEnd = calls.toSorted(([, one], [, other]) => one - other);
  const counts = calls.map(([begin]) => {
    const end = begin + WINDOW_MS - 1;
    return byEnd.filter(([before, after]) => before >= begin && after < end).length;
  });
  return Math.max(...counts);
}

/** The most calls between two moments, above the capacity and the refill of the bucket. */
function bucketSurplus(calls: Calls): number {
  const supply = (ms: number) => LIMIT + ((ms + 1) * LIMIT) / WINDOW_MS;
  const begins = calls.filter((_, index) => index % 10 === 0);
  const surplus = begins.map(([begin]) => {
    const within = calls.filter(([before]) => before >= begin).map(([, after]) => after);
    within.sort((a, b) => a - b);
    return Math.max(...within.map((end, index) => index + 1 - supply(end - begin)));
  });
  return Math.max(...surplus);
}

describeWithServers(
  'a limiter that takes units ahead, called by four processes of which one is killed',
  () => {
    beforeAll(async () => {
      server = await startRedis();
      const run = randomUUID().slice(0, 8);
      const prefixOf = (limiter: AheadLimiter, algorithm: string) => `t-${run}-${limiter}-${algorithm}`;
      const calls = await hammer(
        CASES.map(([limiter, algorithm]) => ({ limiter, algorithm, prefix: prefixOf(limiter, algorithm) })),
      );
      callsOf = (limiter, algorithm) => calls.get(prefixOf(limiter, algorithm)) ?? [];
    });

    afterAll(() => server?.stop());

    for (const limiter of ['reserve', 'wait'] as const) {
      it(`no window has more units than its limit, and the units of the killed process come back (${limiter})`, () => {
        expect(mostInAWindow(callsOf(limiter, 'sliding-window'))).toBeLessThanOrEqual(LIMIT);
      });

      it(`no bucket gives more than its capacity and its refill, and the tokens of the killed process come back (${limiter})`, () => {
        expect(bucketSurplus(callsOf(limiter, 'token-bucket'))).toBeLessThanOrEqual(0);
      });
    }

    it('the checks detect processes that count apart', () => {
      const calls = callsOf('apart', 'sliding-window');
      expect(mostInAWindow(calls)).toBeGreaterThan(LIMIT + UNITS);
      expect(bucketSurplus(calls)).toBeGreaterThan(0);
    });
  },
);
