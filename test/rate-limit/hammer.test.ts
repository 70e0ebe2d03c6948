import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Hammered, LIMIT, type Report, WINDOW_MS } from '../processes/hammer.ts';
import { describeWithServers } from '../support/context.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { type Try, watchTries } from './server-times.ts';

const WORKERS = ['1', '2', '3', '4'] as const;
/** How long the hammer goes on; where a loaded machine made too few tries meanwhile, twice as long the next time. */
const HAMMER_MS = 1_100;

/** So many grants show that the window has moved on. */
const ENOUGH = LIMIT * Math.floor(HAMMER_MS / WINDOW_MS);

interface AnsweredTry extends Try {
  readonly isGranted: boolean;
}

let server: RedisServer;
let workers: readonly ChildProcess[] = [];

async function startWorker(name: string): Promise<ChildProcess> {
  const file = fileURLToPath(new URL('../processes/hammer-worker.ts', import.meta.url));
  const options = { execArgv: ['--import', 'tsx'], cwd: fileURLToPath(new URL('../..', import.meta.url)) };
  const worker = fork(file, [server.url, name], options);
  await once(worker, 'message');
  return worker;
}

async function reportOf(worker: ChildProcess): Promise<Report> {
  const left = once(worker, 'exit').then(([code]) => {
    throw new Error(`a worker of the hammer ended with ${String(code)}`);
  });
  const [report] = await Promise.race([once(worker, 'message'), left]);
  return report as Report;
}

/** All workers at once, beginning within a window of the wall clock: that is where the controls are at their worst. */
async function hammerOn(what: Hammered, forMs: number): Promise<readonly AnsweredTry[]> {
  const reports: Report[] = [];
  const tries = await watchTries(server.url, async () => {
    await pause((1.6 * WINDOW_MS - (Date.now() % WINDOW_MS)) % WINDOW_MS);
    const answers = workers.map(reportOf);
    for (const worker of workers) worker.send({ what, forMs });
    reports.push(...(await Promise.all(answers)));
  });
  return withAnswers(tries, reports.flat());
}

/** A connection's answers come in the order of its tries; its first one named the connection. */
function withAnswers(tries: readonly Try[], lanes: Report): readonly AnsweredTry[] {
  const answersOf = new Map(
    lanes.map(({ lane, granted }) => {
      const client = tries.find(({ id }) => id === `lane-${lane}`)?.client ?? '';
      return [client, granted[Symbol.iterator]()] as const;
    }),
  );
  const answered = tries
    .filter(({ id }) => id === 'all')
    .map((each) => ({ ...each, isGranted: answersOf.get(each.client)?.next().value === '1' }));
  expect(answersOf.size).toBe(WORKERS.length * 2);
  expect(answered).toHaveLength(lanes.reduce((sum, { granted }) => sum + granted.length, 0));
  return answered;
}

/** How many tries in vain had room: `isDue` says for the grants before such a try whether they leave none. */
function needlessRefusals(
  tries: readonly AnsweredTry[],
  isDue: (earlier: readonly AnsweredTry[], earliestMs: number) => boolean,
): number {
  const earlier: AnsweredTry[] = [];
  let needless = 0;
  for (const each of tries) {
    if (each.isGranted) earlier.push(each);
    else if (!isDue(earlier, each.earliestMs)) needless++;
  }
  return needless;
}

/** What is sure to be wrong by the definition of the window, however the broken milliseconds fell. */
function windowFaults(tries: readonly AnsweredTry[]) {
  const granted = tries.filter(({ isGranted }) => isGranted);
  const spans = granted
    .slice(LIMIT)
    .map(({ latestMs }, index) => latestMs - (granted[index]?.earliestMs ?? 0));
  const needless = needlessRefusals(tries, (earlier, now) => {
    const oldest = earlier.at(-LIMIT);
    return oldest !== undefined && oldest.latestMs > now - WINDOW_MS;
  });
  return { smallestSpan: Math.min(...spans), needless, granted: granted.length };
}

/** The same for a bucket of LIMIT tokens that is refilled with LIMIT tokens per window. */
function bucketFaults(tries: readonly AnsweredTry[]) {
  const granted = tries.filter(({ isGranted }) => isGranted);
  const supply = (ms: number) => LIMIT + (Math.max(0, ms) * LIMIT) / WINDOW_MS;
  const tooMany = granted.filter(({ latestMs }, end) =>
    granted.slice(0, end).some(({ earliestMs }, begin) => end - begin + 1 > supply(latestMs - earliestMs)),
  );
  const needless = needlessRefusals(tries, (earlier, now) =>
    earlier.some(({ latestMs }, begin) => earlier.length - begin + 1 > supply(now - latestMs)),
  );
  return { tooMany: tooMany.length, needless, granted: granted.length };
}

describeWithServers('four processes that hammer on one id, by the clock of the server', () => {
  beforeAll(async () => {
    server = await startRedis();
    workers = await Promise.all(WORKERS.map(startWorker));
  });

  afterAll(async () => {
    for (const worker of workers) worker.kill();
    await server?.stop();
  });

  it('never get more than the limit in any window, and never less than it allows', async () => {
    let isEnough = false;
    for (let forMs = HAMMER_MS; !isEnough; forMs *= 2) {
      const tries = await hammerOn('sliding-window', forMs);
      const { smallestSpan, needless, granted } = windowFaults(tries);
      expect(smallestSpan).toBeGreaterThanOrEqual(WINDOW_MS);
      expect(needless).toBe(0);
      isEnough = granted >= ENOUGH && tries.length > 2 * granted;
    }
  });

  it('never get more from a bucket than it holds and is refilled with, and never less', async () => {
    let isEnough = false;
    for (let forMs = HAMMER_MS; !isEnough; forMs *= 2) {
      const { tooMany, needless, granted } = bucketFaults(await hammerOn('token-bucket', forMs));
      expect(tooMany).toBe(0);
      expect(needless).toBe(0);
      isEnough = granted >= ENOUGH;
    }
  });

  it.each(['fixed-window', 'two-counters'] as const)('and the same check finds a %s out', async (what) => {
    let isFoundOut = false;
    for (let forMs = HAMMER_MS; !isFoundOut; forMs *= 2) {
      isFoundOut = windowFaults(await hammerOn(what, forMs)).smallestSpan < WINDOW_MS;
    }
  });
});
