import { setTimeout as pause } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createRedisKit, type RedisKit } from '../../src/index.ts';
import { assertKeysAreOurs, keysOn } from '../support/keys-guard.ts';
import type { RedisCluster } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';
import {
  countViolations,
  limitViolations,
  lockViolations,
  orderViolations,
  purgeViolations,
  sessionViolations,
} from './check-histories.ts';
import { faultsOn, mastersOf, whenHealed } from './faults.ts';
import { type History, openHistory } from './history.ts';
import { LIMIT, runLoads, type Shared, serveKit } from './loads.ts';
import { type Random, randomOf } from './random.ts';

export interface SoakReport {
  readonly violations: readonly string[];
  /** How often each fault was injected. */
  readonly faults: Readonly<Record<string, number>>;
  /** The numbers of records and outcomes. */
  readonly counts: Readonly<Record<string, number>>;
  /** The growth of the heap since a third of the time, in MiB. */
  readonly heapGrowth: number;
  readonly keys: number;
  readonly historyPath: string;
}

const PREFIX = 't-soak';

/** Runs mixed load on two kits of a Cluster while faults are injected at random, and checks the recorded histories. */
export async function soak(
  cluster: RedisCluster,
  { seed, durationMs, log }: { readonly seed: number; readonly durationMs: number; log(line: string): void },
): Promise<SoakReport> {
  const random = randomOf(seed + 1);
  const history = await openHistory();
  const violations: string[] = [];
  const warned = (warning: Error) => violations.push(`a warning of the process: ${warning.message}`);
  process.on('warning', warned);
  const handles = openHandles();
  const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
  const options = { cluster: { nodes }, prefix: PREFIX, logger: false, commandTimeout: '400ms' } as const;
  const kits = [createRedisKit(options), createRedisKit(options)];
  await Promise.all(kits.map((kit) => kit.ready()));
  let isOver = false;
  const shared: Shared = { runs: 0, running: 0 };
  const context = { kits, history, random, violations, isOver: () => isOver };
  const addresses = await Promise.all(kits.map((kit) => serveKit(kit, context, shared)));
  const loads = runLoads({ ...context, addresses });
  const elapsedMs = stopwatch();
  let heap = 0;
  const faults = await injectFaults(cluster, randomOf(seed), {
    log,
    isOver: () => {
      if (heap === 0 && elapsedMs() > durationMs / 3) heap = heapMiB();
      return elapsedMs() > durationMs;
    },
  });
  await whenHealed(cluster);
  violations.push(...(await unrecovered(kits)));
  isOver = true;
  await loads;
  const heapGrowth = Math.round((heapMiB() - heap) * 10) / 10;
  await Promise.all(kits.map((kit) => kit.close()));
  process.off('warning', warned);
  violations.push(...(await leftHandles(handles)), ...(await checkHistories(history)));
  const keys = await countKeys(cluster);
  return { violations, faults, counts: history.counts, heapGrowth, keys, historyPath: history.path };
}

async function injectFaults(
  cluster: RedisCluster,
  random: Random,
  { log, isOver }: { log(line: string): void; isOver(): boolean },
): Promise<Readonly<Record<string, number>>> {
  const faults = faultsOn(cluster, random, `${PREFIX}:lock:{lock-0}`);
  const counts: Record<string, number> = {};
  while (!isOver()) {
    await pause(200 + random(800));
    const fault = faults[random(faults.length)];
    if (fault === undefined) break;
    // A node that restarts refuses commands, so that some faults have no effect.
    const outcome = await fault.inject().then(
      () => 'done',
      (error: unknown) => String(error),
    );
    log(`${fault.name}: ${outcome === 'done' ? outcome : `without effect (${outcome})`}`);
    const name = outcome === 'done' ? fault.name : `${fault.name} (without effect)`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Each kit must work again, without a restart, once the cluster does. */
async function unrecovered(kits: readonly RedisKit[]): Promise<readonly string[]> {
  const found: string[] = [];
  for (const kit of kits) {
    await until('the kit finds its cluster usable', async () => (await kit.check()).ok, 30_000).catch(
      (error: unknown) => found.push(String(error)),
    );
    const lock = await kit.locks.acquire('last', { wait: '5s' }).catch(() => undefined);
    if (lock === undefined) found.push('a lock cannot be acquired after the faults');
    await lock?.release();
  }
  return found;
}

async function checkHistories(history: History): Promise<readonly string[]> {
  const { lock, limit, order, session, purge, counter } = await history.read();
  return [
    ...lockViolations(lock),
    ...limitViolations(limit, LIMIT),
    ...orderViolations(order),
    ...sessionViolations(session),
    ...purgeViolations(purge),
    ...countViolations(counter),
  ];
}

/** Fails for a key without a TTL or outside of the prefix. */
async function countKeys(cluster: RedisCluster): Promise<number> {
  const urls = (await mastersOf(cluster)).map(({ server }) => server.url);
  for (const url of urls) await assertKeysAreOurs(url, new RegExp(`^${PREFIX}:`));
  const keys = await Promise.all(urls.map(keysOn));
  return keys.reduce((sum, { size }) => sum + size, 0);
}

/** The numbers of timers, sockets and other handles that keep the process alive, by kind. */
function openHandles(): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const kind of process.getActiveResourcesInfo()) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}

async function leftHandles(before: ReadonlyMap<string, number>): Promise<readonly string[]> {
  // The servers of the test and the sockets of its clients stay open until the test ends.
  const isOfKit = (kind: string) => kind === 'Timeout' || kind === 'TCPSocketWrap';
  const left = () =>
    [...openHandles()].filter(([kind, count]) => isOfKit(kind) && count > (before.get(kind) ?? 0) + 2);
  const gone = until('no handle is left', () => left().length === 0, 15_000);
  return gone.then(
    () => [],
    () => left().map(([kind, count]) => `${count} handles are left: ${kind}`),
  );
}

function heapMiB(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  collect();
  return process.memoryUsage().heapUsed / 2 ** 20;
}
