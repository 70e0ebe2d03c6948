import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import express from 'express';
import { createRedisKit } from 'redis-kit';
import { startRedis } from '../test/support/servers.ts';
import type { LoadOrder, LoadReport } from './load.ts';

/* What the copies held in the process cost in memory, when a million URLs are asked for, each once. */

const URLS = 1_000_000;
const STEPS = 10;
const MEBIBYTE = 2 ** 20;
const MAX_BYTES = 32 * MEBIBYTE;
const body = Buffer.alloc(1_000, 'x');

const server = await startRedis();
const kit = createRedisKit({ url: server.url });
await kit.ready();
const app = express().disable('x-powered-by');
// Redis drops the entries soon; the process would keep its copies for an hour.
app.use(kit.cache({ ttl: '5s', local: { maxBytes: MAX_BYTES, maxAge: '1h' } }), (_req, res) => {
  res.type('text').send(body);
});
const http = createServer(app).listen(0, '127.0.0.1');
await once(http, 'listening');
const load = fork(fileURLToPath(new URL('load.ts', import.meta.url)), { execArgv: ['--import', 'tsx'] });

/** Mebibytes of the heap and of buffers that are still in use. */
function used(): number {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / MEBIBYTE;
}

async function ask(count: number, from: number): Promise<void> {
  const { port } = http.address() as AddressInfo;
  const requests = [`GET /${from}-{n} HTTP/1.1\r\nHost: localhost\r\n\r\n`];
  const order: LoadOrder = { port, requests, count, connections: 32 };
  load.send(order);
  const [report] = await once(load, 'message');
  const { statuses } = report as LoadReport;
  if (statuses['200'] !== count) throw new Error(`answered ${JSON.stringify(statuses)}`);
}

await ask(1_000, -1);
const before = used();
console.log(`\nA million URLs of ${body.length} bytes, maxBytes ${MAX_BYTES / MEBIBYTE} MiB\n`);
console.log('| URLs | used beyond the beginning, MiB |');
console.log('|---|---|');
for (let step = 0; step < STEPS; step++) {
  await ask(URLS / STEPS, step);
  console.log(`| ${((step + 1) * URLS) / STEPS} | ${(used() - before).toFixed(1)} |`);
}
load.disconnect();
http.closeAllConnections();
http.close();
await kit.close();
await server.stop();
