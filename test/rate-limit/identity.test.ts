import type { IncomingMessage } from 'node:http';
import connect from 'connect';
import express, { type Express } from 'express';
import request from 'supertest';
import { describe, expect, it } from 'vitest';
import { clientAddress, networkOf } from '../../src/http/client-address.ts';
import { kitForTest } from '../support/kits.ts';
import { keepingLogger } from '../support/stores.ts';

const ONE = { algorithm: 'sliding-window', limit: 1, window: '1h', name: 'one' } as const;

function ok(_req: unknown, res: { end(text: string): unknown }): void {
  res.end('ok');
}

describe('the network of an address', () => {
  it('the network of an IPv4 address is the whole address, even if it is mapped into IPv6', () => {
    expect(networkOf('192.0.2.7', 56)).toBe('192.0.2.7');
    expect(networkOf('::ffff:192.0.2.7', 56)).toBe('192.0.2.7');
    expect(networkOf('::ffff:c000:207', 56)).toBe('192.0.2.7');
    expect(networkOf('0:0:0:0:0:ffff:192.0.2.7', false)).toBe('192.0.2.7');
  });

  it('the network of an IPv6 address is the same /56 prefix in every notation of the address', () => {
    const network = '2001:db8:1234:5600:0:0:0:0/56';
    for (const address of [
      '2001:db8:1234:5678::1',
      '2001:0DB8:1234:56ff:ffff:ffff:ffff:ffff',
      '2001:db8:1234:5600::',
    ]) {
      expect(networkOf(address, 56)).toBe(network);
    }
    expect(networkOf('2001:db8:1234:5700::1', 56)).not.toBe(network);
    expect(networkOf('fe80::1%eth0', 64)).toBe('fe80:0:0:0:0:0:0:0/64');
    expect(networkOf('::', 56)).toBe('0:0:0:0:0:0:0:0/56');
    expect(networkOf('64:ff9b::192.0.2.33', 96)).toBe('64:ff9b:0:0:0:0:0:0/96');
  });

  it('the network of an address excludes the port and the brackets that some proxies write', () => {
    expect(networkOf('203.0.113.7:51234', 56)).toBe('203.0.113.7');
    expect(networkOf('[2001:db8:1234:5678::1]:443', 56)).toBe('2001:db8:1234:5600:0:0:0:0/56');
    expect(networkOf('[2001:db8:1234:5678::1]', 56)).toBe('2001:db8:1234:5600:0:0:0:0/56');
    expect(networkOf('[::ffff:192.0.2.7]:1', 56)).toBe('192.0.2.7');
  });

  it('the network of an IPv6 address is the whole address when `ipv6Subnet` is false', () => {
    expect(networkOf('2001:db8::1', false)).toBe('2001:db8:0:0:0:0:0:1/128');
    expect(networkOf('2001:db8::', 56)).not.toBe(networkOf('2001:db8::', 64));
    expect(networkOf('not an address', 56)).toBe('not an address');
  });
});

describe('the client address', () => {
  it("the client address is Express's `req.ip` if set, else the address of the socket", () => {
    const socket = { remoteAddress: '192.0.2.1' };
    expect(clientAddress({ ip: '192.0.2.9', socket } as unknown as IncomingMessage)).toBe('192.0.2.9');
    expect(clientAddress({ socket } as unknown as IncomingMessage)).toBe('192.0.2.1');
    expect(clientAddress({ ip: undefined, socket: {} } as unknown as IncomingMessage)).toBeUndefined();
  });
});

describe('the identity of a request', () => {
  function appBehindProxies(trust: unknown): Express {
    const app = express();
    app.set('trust proxy', trust);
    return app.use(kitForTest({ url: 'memory:' }).rateLimit(ONE)).get('/', ok);
  }

  it('the identity of a request follows the `trust proxy` setting of Express', async () => {
    const trusting = appBehindProxies(1);
    await request(trusting).get('/').set('X-Forwarded-For', '192.0.2.1').expect(200);
    await request(trusting).get('/').set('X-Forwarded-For', '192.0.2.2').expect(200);
    await request(trusting).get('/').set('X-Forwarded-For', '192.0.2.2').expect(429);
    const strict = appBehindProxies(false);
    await request(strict).get('/').set('X-Forwarded-For', '192.0.2.1').expect(200);
    await request(strict).get('/').set('X-Forwarded-For', '192.0.2.2').expect(429);
  });

  it('a request without a client address is passed to `next` with an error', async () => {
    const limit = kitForTest({ url: 'memory:' }).rateLimit(ONE);
    const app = express()
      .use((req, _res, next) => {
        Object.defineProperty(req, 'ip', { value: undefined });
        Object.defineProperty(req.socket, 'remoteAddress', { value: undefined });
        next();
      })
      .use(limit)
      .get('/', ok);
    expect((await request(app).get('/').expect(500)).text).toContain('no client address');
  });
});

describe('the detection of misuse', () => {
  function recordingKit(url = 'memory:') {
    const logger = keepingLogger();
    const kit = kitForTest({ url, logger });
    const events: string[] = [];
    kit.on('rate:misuse', ({ message }) => events.push(message));
    return { kit, logger, events };
  }

  async function twice(app: Parameters<typeof request>[0], status: number): Promise<void> {
    for (let tries = 0; tries < 2; tries++)
      await request(app).get('/').set('X-Forwarded-For', '192.0.2.1').expect(status);
  }

  it('a request with X-Forwarded-For is reported once while `trust proxy` is not set', async () => {
    for (const app of [express(), connect()]) {
      const { kit, events, logger } = recordingKit();
      app.use(kit.rateLimit({ ...ONE, limit: 9 }));
      app.use(ok as never);
      await twice(app as never, 200);
      expect(events).toEqual([expect.stringContaining(`'trust proxy' is not set`)]);
      expect(logger.lines).toEqual(events);
    }
  });

  it('a `trust proxy` setting of true is reported once', async () => {
    const { kit, events } = recordingKit();
    const app = express()
      .set('trust proxy', true)
      .use(kit.rateLimit({ ...ONE, limit: 9 }))
      .get('/', ok);
    await twice(app, 200);
    expect(events).toEqual([expect.stringContaining(`'trust proxy' is true`)]);
  });

  it('a request with X-Forwarded-For is not reported when the proxies are configured or `key` is set', async () => {
    const { kit, events } = recordingKit();
    await twice(
      express()
        .set('trust proxy', 1)
        .use(kit.rateLimit({ ...ONE, limit: 9 }))
        .get('/', ok),
      200,
    );
    await twice(
      express()
        .use(kit.rateLimit({ ...ONE, limit: 9, name: 'b', key: () => 'x' }))
        .get('/', ok),
      200,
    );
    expect(events).toEqual([]);
  });

  it('a limiter that a handler creates is reported once, and the next request cannot create the limiter again', async () => {
    const { kit, events } = recordingKit();
    const app = express().get('/', (req, res, next) => kit.rateLimit(ONE)(req, res, next), ok);
    await request(app).get('/').expect(200);
    expect(events).toEqual([expect.stringContaining('made while a request was handled')]);
    await request(app).get('/').expect(500);
    expect(events).toHaveLength(1);
  });

  it('a limiter that handles the same request twice is reported once', async () => {
    const { kit, events } = recordingKit();
    const limit = kit.rateLimit({ ...ONE, limit: 9, key: () => 'x' });
    await twice(express().use(limit).get('/', limit, ok), 200);
    expect(events).toEqual([`the limiter 'one' counts the same request twice; mount it once`]);
  });

  it('a `key` that returns undefined or an object is reported once', async () => {
    const { kit, events } = recordingKit();
    const key = () => undefined as unknown as string;
    await twice(
      express()
        .use(kit.rateLimit({ ...ONE, key }))
        .get('/', ok),
      500,
    );
    await twice(
      express()
        .use(kit.rateLimit({ ...ONE, name: 'b', key: () => ({}) as string }))
        .get('/', ok),
      500,
    );
    expect(events).toEqual([
      expect.stringContaining('returned undefined'),
      expect.stringContaining('returned an object'),
    ]);
  });
});
