import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import compression from 'compression';
import express, { type RequestHandler } from 'express';
import onHeaders from 'on-headers';
import { describe, expect, it, onTestFinished } from 'vitest';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { serve } from '../support/web.ts';
import { openEvents } from './events.ts';

/** A client that sends a request and reads nothing of the response. */
async function slowClient(address: string): Promise<Socket> {
  const { hostname, port } = new URL(address);
  const socket = connect(Number(port), hostname).pause();
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n`);
  return socket;
}

/** About 64 kB that no compression makes much smaller. */
function noise(): string {
  return Array.from({ length: 4_000 }, () => Math.random().toString(36).slice(2)).join('');
}

const COMPRESS: readonly RequestHandler[] = [
  compression({ filter: () => true, threshold: 0 }),
  (_req, res, next) => {
    onHeaders(res, () => res.setHeader('Cache-Control', 'no-cache'));
    next();
  },
];

describe.each([
  ['without compression', []],
  ['through compression', COMPRESS],
])('A client that reads slowly, %s', (_name, above) => {
  it('a client is disconnected when more than `maxBuffered` bytes wait for it, and others are not', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const overflows = eventsOf(kit, 'sse:overflow');
    const maxBuffered = 200_000;
    const url = await serve(express().use(...above, kit.sse({ channels: () => ['a', 'b'], maxBuffered })));
    const socket = await slowClient(url);
    const reader = await openEvents(url, { 'accept-encoding': 'gzip' });
    let sent = 0;
    await until('the slow client is disconnected', async () => {
      await kit.publish('a', noise());
      await reader.count(++sent);
      return overflows.length > 0;
    });
    expect(overflows).toEqual([{ channels: ['a', 'b'], bytes: expect.any(Number) }]);
    expect(overflows[0]?.bytes).toBeGreaterThan(maxBuffered);
    expect(overflows[0]?.bytes).toBeLessThan(maxBuffered + 100_000);
    socket.resume();
    await until('the connection is closed', () => socket.closed || socket.readableEnded);
    await kit.publish('a', 'the last');
    await reader.count(sent + 1);
    expect(reader.hasEnded).toBe(false);
  });

  it('a client that pauses for a while receives everything afterwards, in order', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const overflows = eventsOf(kit, 'sse:overflow');
    const url = await serve(
      express().use(...above, kit.sse({ channels: () => 'a', maxBuffered: 64 * 2 ** 20 })),
    );
    const reader = await openEvents(url, { 'accept-encoding': 'gzip' });
    const data = noise();
    // More than the buffers of both sockets take.
    const count = 150;
    reader.response.pause();
    for (let n = 0; n < count; n++) await kit.publish('a', [n, data]);
    reader.response.resume();
    await reader.count(count);
    expect(reader.data.map((item) => (item as [number, string])[0])).toEqual(
      Array.from({ length: count }, (_, n) => n),
    );
    expect(overflows).toEqual([]);
  });
});
