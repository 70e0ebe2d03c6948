import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type HammeredLimiter, LIMIT, type Report, WINDOW_MS } from '../processes/hammer.ts';
import { describeWithServers } from '../support/context.ts';
import { startWorkers } from '../support/program.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { type ObservedCall, observeCalls } from './server-times.ts';

const WORKERS = ['1', '2', '3', '4'] as const;
/** How long the processes send requests. Doubled after a run in which a loaded machine sent too few. */
const HAMMER_MS = 1_100;

/** A run with fewer allowed requests does not show that the window moves. */
const ENOUGH = LIMIT * Math.floor(HAMMER_MS / WINDOW_MS);

interface DecidedCall extends ObservedCall {
  readonly isAllowed: boolean;
}

let server: RedisServer;
let workers: readonly ChildProcess[] = [];

async function reportOf(worker: ChildProcess): Promise<Report> {
  const left = once(worker, 'exit').then(([code]) => {
    throw new Error(`a worker exited with ${String(code)}`);
  });
  const [report] = await Promise.race([once(worker, 'message'), left]);
  return report as Report;
}

/** Starts all workers in the middle of a window of the wall clock, where the inexact control scripts fail most. */
async function hammerOn(limiter: HammeredLimiter, forMs: number): Promise<readonly DecidedCall[]> {
  const reports: Report[] = [];
  const calls = await observeCalls(server.url, async () => {
    await pause((1.6 * WINDOW_MS - (Date.now() % WINDOW_MS)) % WINDOW_MS);
    const pending = workers.map(reportOf);
    for (const worker of workers) worker.send({ limiter, forMs });
    reports.push(...(await Promise.all(pending)));
  });
  return withDecisions(calls, reports.flat());
}

/** The decisions of a connection have the order of its calls. Its first call names the connection. */
function withDecisions(calls: readonly ObservedCall[], lanes: Report): readonly DecidedCall[] {
  const decisionsOf = new Map(
    lanes.map(({ lane, allowed }) => {
      const client = calls.find(({ id }) => id === `lane-${lane}`)?.client ?? '';
      return [client, allowed[Symbol.iterator]()] as const;
    }),
  );
  const decided = calls
    .filter(({ id }) => id === 'all')
    .map((each) => ({ ...each, isAllowed: decisionsOf.get(each.client)?.next().value === '1' }));
  expect(decisionsOf.size).toBe(WORKERS.length * 2);
  expect(decided).toHaveLength(lanes.reduce((sum, { allowed }) => sum + allowed.length, 0));
  return decided;
}

/** How many calls were refused needlessly. `isDue` decides, from the calls allowed before, whether a refusal was due. */
function needlessRefusals(
  calls: readonly DecidedCall[],
  isDue: (earlier: readonly DecidedCall[], earliestMs: number) => boolean,
): number {
  const earlier: DecidedCall[] = [];
  let needless = 0;
  for (const each of calls) {
    if (each.isAllowed) earlier.push(each);
    else if (!isDue(earlier, each.earliestMs)) needless++;
  }
  return needless;
}

/** Violations of the definition of a sliding window, whatever the fractions of the milliseconds were. */
function windowFaults(calls: readonly DecidedCall[]) {
  const allowed = calls.filter(({ isAllowed }) => isAllowed);
  const spans = allowed
    .slice(LIMIT)
    .map(({ latestMs }, index) => latestMs - (allowed[index]?.earliestMs ?? 0));
  const needless = needlessRefusals(calls, (earlier, now) => {
    const oldest = earlier.at(-LIMIT);
    return oldest !== undefined && oldest.latestMs > now - WINDOW_MS;
  });
  return { smallestSpan: Math.min(...spans), needless, allowed: allowed.length };
}

/** Violations of the definition of a bucket with LIMIT tokens that is refilled with LIMIT tokens per window. */
function bucketFaults(calls: readonly DecidedCall[]) {
  const allowed = calls.filter(({ isAllowed }) => isAllowed);
  const supply = (ms: number) => LIMIT + (Math.max(0, ms) * LIMIT) / WINDOW_MS;
  const tooMany = allowed.filter(({ latestMs }, end) =>
    allowed.slice(0, end).some(({ earliestMs }, begin) => end - begin + 1 > supply(latestMs - earliestMs)),
  );
  const needless = needlessRefusals(calls, (earlier, now) =>
    earlier.some(({ latestMs }, begin) => earlier.length - begin + 1 > supply(now - latestMs)),
  );
  return { tooMany: tooMany.length, needless, allowed: allowed.length };
}

describeWithServers('a limiter that four processes call for the same id', () => {
  beforeAll(async () => {
    server = await startRedis();
    const argumentLists = WORKERS.map((name) => [server.url, name]);
    workers = await startWorkers('test/processes/hammer-worker.ts', argumentLists);
  });

  afterAll(async () => {
    for (const worker of workers) worker.kill();
    await server?.stop();
  });

  it('a sliding window allows exactly its limit in every window by the clock of the server', async () => {
    let isEnough = false;
    for (let forMs = HAMMER_MS; !isEnough; forMs *= 2) {
      const calls = await hammerOn('sliding-window', forMs);
      const { smallestSpan, needless, allowed } = windowFaults(calls);
      expect(smallestSpan).toBeGreaterThanOrEqual(WINDOW_MS);
      expect(needless).toBe(0);
      isEnough = allowed >= ENOUGH && calls.length > 2 * allowed;
    }
  });

  it('a token bucket allows exactly its capacity and its refill by the clock of the server', async () => {
    let isEnough = false;
    for (let forMs = HAMMER_MS; !isEnough; forMs *= 2) {
      const { tooMany, needless, allowed } = bucketFaults(await hammerOn('token-bucket', forMs));
      expect(tooMany).toBe(0);
      expect(needless).toBe(0);
      isEnough = allowed >= ENOUGH;
    }
  });

  it.each(['fixed-window', 'two-counters'] as const)(
    'the check for sliding windows detects that a %s script allows too much',
    async (script) => {
      let isDetected = false;
      for (let forMs = HAMMER_MS; !isDetected; forMs *= 2) {
        isDetected = windowFaults(await hammerOn(script, forMs)).smallestSpan < WINDOW_MS;
      }
    },
  );
});
