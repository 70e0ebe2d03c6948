import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { createClient } from 'redis';
import type { LoadOrder, LoadReport } from './load.ts';

/** A subject of a comparison. The others are divided by the first one. */
export interface Subject {
  readonly name: string;
  readonly app: RequestListener;
  /** What each answer must be; a subject that fails quickly must not win. */
  readonly status: number;
  /** What its answer must contain, where that is worth a look. */
  readonly says?: string;
  /** Header lines of its requests, one set for each; sent by turns. */
  readonly headers: readonly string[];
}

export interface Measured {
  readonly cpuMicros: number;
  readonly perSecond: number;
  readonly redisMicros: number;
}

const ROUNDS = 9;
const REQUESTS = 2_500;
const CONNECTIONS = 32;

/**
 * Measures all subjects in interleaved rounds, so that other work of the machine affects all of them alike; prints the
 * medians as a table.
 */
export async function compare(title: string, redisUrl: string, subjects: readonly Subject[]): Promise<void> {
  const load = fork(fileURLToPath(new URL('load.ts', import.meta.url)), {
    execArgv: ['--import', 'tsx'],
  });
  const redis = createClient({ url: redisUrl });
  await redis.connect();
  const servers = await Promise.all(subjects.map(({ app }) => listen(app)));
  const results = subjects.map((): Measured[] => []);
  try {
    await Promise.all(servers.map((server, index) => checkAnswer(subjects[index], server)));
    // The first two rounds are warm-up for the JIT compiler.
    for (let round = -2; round < ROUNDS; round++) {
      for (const [turn] of subjects.entries()) {
        const index = (turn + round + 2) % subjects.length;
        const [subject, server] = [subjects[index], servers[index]];
        if (subject === undefined || server === undefined) continue;
        const measured = await measure(subject, server, load, async () => cpuOf(await redis.info('cpu')));
        if (round >= 0) results[index]?.push(measured);
      }
    }
  } finally {
    load.disconnect();
    redis.destroy();
    for (const server of servers) {
      server.closeAllConnections();
      server.close();
    }
  }
  print(title, subjects, results.map(medians));
}

async function checkAnswer(subject: Subject | undefined, server: Server): Promise<void> {
  const { port } = server.address() as AddressInfo;
  const [fields = ''] = subject?.headers ?? [];
  const headers = new Headers();
  for (const [, name = '', value = ''] of fields.matchAll(/^(.+?): (.+?)\r$/gm)) headers.append(name, value);
  const answer = await (await fetch(`http://127.0.0.1:${port}/`, { headers })).text();
  if (answer.includes(subject?.says ?? '')) return;
  throw new Error(`${subject?.name} should say ${subject?.says} and says ${answer}`);
}

async function measure(
  { name, status, headers }: Subject,
  server: Server,
  load: ChildProcess,
  redisCpu: () => Promise<number>,
): Promise<Measured> {
  const { port } = server.address() as AddressInfo;
  const requests = headers.map((lines) => `GET / HTTP/1.1\r\nHost: localhost\r\n${lines}\r\n`);
  const order: LoadOrder = { port, requests, count: REQUESTS, connections: CONNECTIONS };
  const redisBefore = await redisCpu();
  const before = process.cpuUsage();
  load.send(order);
  const [answer] = await once(load, 'message');
  const { user, system } = process.cpuUsage(before);
  const { ms, statuses } = answer as LoadReport;
  if (statuses[status] !== REQUESTS) {
    throw new Error(`${name} should answer ${status} and answered ${JSON.stringify(statuses)}`);
  }
  const redisMicros = (await redisCpu()) - redisBefore;
  return {
    cpuMicros: (user + system) / REQUESTS,
    perSecond: (REQUESTS / ms) * 1_000,
    redisMicros: redisMicros / REQUESTS,
  };
}

async function listen(app: RequestListener): Promise<Server> {
  const server = createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** The CPU time of the Redis process, in microseconds. */
function cpuOf(info: string): number {
  const used = (name: string) => Number(new RegExp(`${name}:([\\d.]+)`).exec(info)?.[1]);
  return (used('used_cpu_user') + used('used_cpu_sys')) * 1_000_000;
}

function medians(rounds: readonly Measured[]): Measured {
  const median = (field: keyof Measured) => {
    const sorted = rounds.map((round) => round[field]).sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  };
  return {
    cpuMicros: median('cpuMicros'),
    perSecond: median('perSecond'),
    redisMicros: median('redisMicros'),
  };
}

function print(title: string, subjects: readonly Subject[], results: readonly Measured[]): void {
  const bare = results[0];
  if (bare === undefined) return;
  console.log(
    `\n${title} (${cpus().length} cores, Node ${process.versions.node}; medians of ${ROUNDS} rounds)\n`,
  );
  console.log(
    '| | CPU per request, to bare | added CPU, µs | requests per second, to bare | Redis CPU, µs |',
  );
  console.log('|---|---|---|---|---|');
  for (const [index, { name }] of subjects.entries()) {
    const { cpuMicros, perSecond, redisMicros } = results[index] ?? bare;
    const cells = [
      (cpuMicros / bare.cpuMicros).toFixed(2),
      index === 0 ? `(${cpuMicros.toFixed(0)} in all)` : (cpuMicros - bare.cpuMicros).toFixed(0),
      (perSecond / bare.perSecond).toFixed(2),
      redisMicros.toFixed(0),
    ];
    console.log(`| ${name} | ${cells.join(' | ')} |`);
  }
}
