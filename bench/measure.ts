import { countCommands } from '../test/support/wire.ts';
import type { LoadOrder, LoadReport } from './load.ts';
import type { Redis } from './redis.ts';
import { metricOf, type RowResult, ratioOf, type Sample, type ServerResult } from './results.ts';
import type { RowRequest } from './row.ts';
import { findRow } from './rows/index.ts';
import { type Server, startServers } from './servers.ts';
import type { Worker } from './worker.ts';

/** What the rows of a run have in common. */
export interface Bench {
  readonly redis: Redis;
  readonly load: Worker<LoadOrder, LoadReport>;
  /** The path of the Node.js that runs the servers. */
  readonly node: string;
  readonly rounds: number;
  readonly seconds: number;
  report(line: string): void;
}

/** Measures the servers of a row in interleaved rounds, so that other work of the machine affects all of them alike. */
export async function measureRow(name: string, bench: Bench): Promise<RowResult> {
  const row = findRow(name);
  const { request = {} } = row;
  const { servers, failures } = await startServers(name, row, bench.redis, bench.node);
  try {
    for (const { order, kind } of servers) {
      // Each client has a key in Redis before its requests are measured.
      const atLeast = kind === 'bare' ? order.connections : (request.cycle ?? order.connections);
      await bench.load.ask({ ...order, seconds: 2 * bench.seconds, atLeast });
    }
    for (let round = 0; round < bench.rounds; round++) {
      for (const turn of servers.keys()) {
        const server = servers[(turn + round) % servers.length];
        server?.rounds.push(await measure(server, bench, request));
      }
      bench.report(`  round ${round + 1} of ${bench.rounds}: ${progressOf(servers)}`);
    }
    const results: ServerResult[] = [];
    for (const server of servers) results.push(await resultOf(server, bench, request));
    return { name, title: row.title, servers: results, failures };
  } catch (error) {
    return { name, title: row.title, servers: [], failures: [...failures, String(error)] };
  } finally {
    await Promise.all(servers.flatMap(({ processes }) => processes.map((process) => process.stop())));
    await bench.redis.clear();
  }
}

async function measure(server: Server, bench: Bench, request: RowRequest): Promise<Sample> {
  const { redis, load, seconds } = bench;
  const status = server.kind === 'bare' ? 200 : (request.status ?? 200);
  const [redisBefore, cpuBefore] = [await redis.use(), await cpuOf(server)];
  const { requests, statuses, ...times } = await load.ask({ ...server.order, seconds });
  const [cpuAfter, redisAfter] = [await cpuOf(server), await redis.use()];
  return {
    ...times,
    cpuMicros: (cpuAfter - cpuBefore) / requests,
    redisMicros: (redisAfter.cpu - redisBefore.cpu) / requests,
    scriptMicros: (redisAfter.scripts - redisBefore.scripts) / requests,
    failed: 1 - (statuses[status] ?? 0) / requests,
  };
}

/** The CPU time of all its processes in microseconds. */
async function cpuOf({ processes }: Server): Promise<number> {
  const uses = await Promise.all(processes.map((process) => process.ask({})));
  return uses.reduce((sum, { user, system }) => sum + user + system, 0);
}

async function resultOf(server: Server, bench: Bench, request: RowRequest): Promise<ServerResult> {
  const { redis, load, seconds } = bench;
  const { name, kind, rounds, order } = server;
  let requests = 0;
  const commands = await countCommands(redis.url, async () => {
    ({ requests } = await load.ask({ ...order, seconds: seconds / 3 }));
  });
  const keyBytes = request.measuresKeys ? await largestKeyUnderLoad(server, bench) : undefined;
  return { name, kind, rounds, commands: commands.length / requests, keyBytes };
}

/** Without load, a key with a short expiry would be gone. */
async function largestKeyUnderLoad(
  { order, prefix }: Server,
  { redis, load, seconds }: Bench,
): Promise<number> {
  let isOver = false;
  const burst = load.ask({ ...order, seconds }).finally(() => {
    isOver = true;
  });
  const poll = async () => {
    let largest = 0;
    while (!isOver) largest = Math.max(largest, await redis.largestKey(prefix));
    return largest;
  };
  const [largest] = await Promise.all([poll(), burst]);
  return largest;
}

function progressOf(servers: readonly Server[]): string {
  const [bare] = servers;
  return servers
    .map((server) => {
      const { median } = metricOf(server, 'cpuMicros');
      const ratio = bare === undefined ? Number.NaN : ratioOf(server, bare, 'cpuMicros').median;
      return `${server.name} ${median.toFixed(0)} µs (${ratio.toFixed(2)})`;
    })
    .join(', ');
}
