import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  type AheadLimiter,
  type AheadOrder,
  type AheadReport,
  LIMIT,
  UNITS,
  WINDOW_MS,
} from '../processes/ahead-hammer.ts';
import { describeWithServers } from '../support/context.ts';
import { compiledKitEnv } from '../support/program.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';

type Calls = AheadReport[number][];

let server: RedisServer;

async function startWorker(): Promise<ChildProcess> {
  const file = fileURLToPath(new URL('../processes/ahead-worker.ts', import.meta.url));
  const cwd = fileURLToPath(new URL('../..', import.meta.url));
  const options = { execArgv: ['--import', 'tsx'], cwd, env: compiledKitEnv() };
  const worker = fork(file, [server.url], options);
  await once(worker, 'message');
  return worker;
}

/**
 * Lets four processes call the same limiter until `enough` calls were allowed, kills one of them without warning, and lets
 * the others go on until they were allowed as many calls again.
 */
async function hammer(limiter: AheadLimiter, algorithm: AheadOrder['algorithm'], enough: number) {
  const workers = await Promise.all(Array.from({ length: 4 }, startWorker));
  const calls: Calls = [];
  const exits: number[] = [];
  const order: AheadOrder = { limiter, algorithm, prefix: `t-${randomUUID().slice(0, 8)}` };
  for (const worker of workers) {
    worker.on('message', (report) => void calls.push(...(report as AheadReport)));
    worker.on('exit', (code) => void (code === null || exits.push(code)));
    worker.send(order);
  }
  await until('enough calls were allowed', () => calls.length >= enough);
  workers[0]?.kill('SIGKILL');
  await until('enough calls were allowed again', () => calls.length >= 2 * enough);
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
  const ends = calls.map(([, after]) => after).toSorted((a, b) => a - b);
  const begins = calls.filter((_, index) => index % 10 === 0);
  const surplus = begins.flatMap(([begin]) => {
    const within = calls.filter(([before]) => before >= begin).map(([, after]) => after);
    within.sort((a, b) => a - b);
    return within.map((end, index) => index + 1 - supply(end - begin));
  });
  expect(ends.length).toBeGreaterThan(0);
  return Math.max(...surplus);
}

describeWithServers(
  'a limiter that takes units ahead, called by four processes of which one is killed',
  () => {
    beforeAll(async () => {
      server = await startRedis();
    });

    afterAll(() => server?.stop());

    for (const limiter of ['reserve', 'wait'] as const) {
      it(`no window has more units than its limit, and the units of the killed process come back (${limiter})`, async () => {
        const calls = await hammer(limiter, 'sliding-window', 6 * LIMIT);
        expect(mostInAWindow(calls)).toBeLessThanOrEqual(LIMIT);
      });

      it(`no bucket gives more than its capacity and its refill, and the tokens of the killed process come back (${limiter})`, async () => {
        expect(bucketSurplus(await hammer(limiter, 'token-bucket', 6 * LIMIT))).toBeLessThanOrEqual(0);
      });
    }

    it('the checks detect processes that count apart', async () => {
      const calls = await hammer('apart', 'sliding-window', 6 * LIMIT);
      expect(mostInAWindow(calls)).toBeGreaterThan(LIMIT + UNITS);
      expect(bucketSurplus(calls)).toBeGreaterThan(0);
    });
  },
);
