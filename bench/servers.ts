import type { LoadOrder } from './load.ts';
import type { Redis } from './redis.ts';
import type { Sample } from './results.ts';
import type { Row, RowRequest } from './row.ts';
import { type ServerKind, serversOf } from './rows/index.ts';
import { Worker } from './worker.ts';

/** A server of a row, in one or more processes. */
export interface Server {
  readonly name: string;
  readonly kind: ServerKind;
  /** The first part of its keys in Redis. */
  readonly prefix: string;
  readonly processes: readonly Worker<object, NodeJS.CpuUsage>[];
  /** Its requests. */
  readonly order: LoadOrder;
  readonly rounds: Sample[];
}

export interface StartedServers {
  readonly servers: readonly Server[];
  /** Servers that could not start, and why. */
  readonly failures: readonly string[];
}

const CONNECTIONS = 32;

/** Starts the servers of a row with the Node.js at this path. */
export async function startServers(
  rowName: string,
  row: Row,
  redis: Redis,
  node: string,
): Promise<StartedServers> {
  const { request = {} } = row;
  const url = request.delayMs === undefined ? redis.url : await redis.delayedUrl(request.delayMs);
  const servers: Server[] = [];
  const failures: string[] = [];
  await Promise.all(
    serversOf(row).map(async ({ name, kind }, index) => {
      const prefix = `bench${index}`;
      const processes: Worker<object, NodeJS.CpuUsage>[] = [];
      try {
        const ports: number[] = [];
        for (let count = request.processes ?? 1; count > 0; count--) {
          const { worker, port } = await startServer([rowName, name, url, prefix], node);
          processes.push(worker);
          ports.push(port);
        }
        servers[index] = { name, kind, prefix, processes, order: await orderFor(ports, request), rounds: [] };
      } catch (error) {
        failures.push(`${name}: ${error instanceof Error ? error.message : error}`);
        await Promise.all(processes.map((process) => process.stop()));
      }
    }),
  );
  return { servers: Object.values(servers), failures };
}

function startServer(args: readonly string[], node: string) {
  return Worker.start<object, NodeJS.CpuUsage>(['server.ts', ...args], node);
}

async function orderFor(ports: readonly number[], request: RowRequest): Promise<LoadOrder> {
  const { headers = {}, visitors = 0, connections = CONNECTIONS, cycle = Number.MAX_SAFE_INTEGER } = request;
  const fields = Object.entries({ Host: 'localhost', ...headers });
  const head = `GET / HTTP/1.1\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}`;
  const cookies: string[] = [];
  while (cookies.length < visitors) cookies.push(await logIn(ports[0] ?? 0));
  const requests =
    visitors === 0 ? [`${head}\r\n`] : cookies.map((cookie) => `${head}Cookie: ${cookie}\r\n\r\n`);
  return { ports, connections, requests, cycle, seconds: 0, atLeast: connections };
}

/** Returns the cookie of a new session. */
async function logIn(port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/login`);
  await response.arrayBuffer();
  const cookie = response.headers.getSetCookie()[0]?.split(';')[0];
  if (!response.ok || cookie === undefined) {
    throw new Error(`the login answered ${response.status}, without a cookie`);
  }
  return cookie;
}
