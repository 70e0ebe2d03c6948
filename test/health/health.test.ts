import connect from 'connect';
import express from 'express';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createRedisKit, type HealthOptions, type RedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';
import { countCommands } from '../support/wire.ts';

const serveHealth = (kit: RedisKit, options?: HealthOptions) =>
  serve(express().use('/ready', kit.health(options)));

describe('kit.health()', () => {
  it('a probe gets 200 and JSON that no cache stores', async () => {
    const answer = await send(`${await serveHealth(kitForTest({ url: 'memory:' }))}/ready`);
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
    });
    expect(JSON.parse(answer.text)).toEqual({ ok: true, mode: 'memory' });
  });

  it('a HEAD request gets the headers alone', async () => {
    const answer = await send(`${await serveHealth(kitForTest({ url: 'memory:' }))}/ready`, {
      method: 'HEAD',
    });
    expect({ status: answer.status, text: answer.text }).toEqual({ status: 200, text: '' });
    expect(answer.headers['content-length']).toBe('27');
  });

  it('probes work on Connect and on a server of node:http', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const health = kit.health({ details: true });
    const apps = [
      connect().use(health),
      (...[req, res]: Parameters<typeof health>) => health(req, res, () => undefined),
    ];
    for (const app of apps) {
      const answer = await send(await serve(app as never));
      expect(answer.status).toBe(200);
      expect(JSON.parse(answer.text)).toEqual(await kit.check());
    }
  });

  it('a closed kit is not ready, and is still alive', async () => {
    const kit = createRedisKit({ url: 'memory:', logger: false });
    kit.limiter({ algorithm: 'sliding-window', limit: 9, window: '1h' });
    const app = express()
      .use('/ready', kit.health())
      .use('/live', kit.health({ liveness: true }));
    const address = await serve(app);
    await kit.close();
    const ready = await send(`${address}/ready`);
    expect(ready.status).toBe(503);
    expect(ready.headers['retry-after']).toBe('1');
    expect(JSON.parse(ready.text)).toEqual({ ok: false, mode: 'memory', error: 'ERR_REDIS_KIT_CLOSED' });
    const live = await send(`${address}/live`);
    expect({ status: live.status, text: live.text }).toEqual({ status: 200, text: '{"ok":true}' });
  });

  it('health() rejects wrong options and a request in their place', () => {
    const kit = kitForTest({ url: 'memory:' });
    expect(() => kit.health({ live: true } as HealthOptions)).toThrow('`liveness`');
    expect(() => kit.health({ liveness: 'yes' as never })).toThrow('true or false');
    expect(() => kit.health({ liveness: true, details: true })).toThrow(
      '`details` is true; it has no effect',
    );
    expect(() => kit.health({ method: 'GET', url: '/', headers: {} } as never)).toThrow(
      'kit.health({ ... })',
    );
  });
});

describeWithServers('kit.health() while Redis is down', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
  });
  afterEach(() => server.thaw());
  afterAll(() => server.stop());

  async function statusWhileFrozen(
    use: (kit: RedisKit) => unknown,
    options?: HealthOptions,
  ): Promise<{ readonly status: number; readonly text: string }> {
    const kit = kitForTest({ url: server.url, commandTimeout: '100ms' });
    await kit.ready();
    await use(kit);
    const address = await serveHealth(kit, options);
    server.freeze();
    const { status, text } = await send(`${address}/ready`);
    server.thaw();
    return { status, text };
  }

  const limit = { algorithm: 'sliding-window', limit: 9, window: '1h' } as const;
  const key = () => 'a';

  it.each<[string, (kit: RedisKit) => unknown]>([
    ['nothing else', () => undefined],
    ['sessions', (kit) => kit.session({ secret: 'a secret of the test' })],
    ['a session store', (kit) => kit.sessionStore()],
    ['a lock middleware', (kit) => kit.lock({ key })],
    ['a lock without HTTP', (kit) => kit.locks.tryAcquire('a').catch(() => null)],
    ['idempotency keys', (kit) => kit.idempotency()],
    ['a limit that denies', (kit) => kit.rateLimit({ ...limit, onError: 'deny' })],
    ['a concurrency limit that denies', (kit) => kit.concurrency({ key, limit: 1, onError: 'deny' })],
    ['sessions in a namespace', (kit) => kit.namespace('x').session({ secret: 'a secret of the test' })],
  ])('an app with %s is not ready', async (_name, use) => {
    const { status, text } = await statusWhileFrozen(use);
    expect(status).toBe(503);
    expect(JSON.parse(text)).toEqual({ ok: false, mode: 'standalone', error: 'ERR_REDIS_KIT_TIMEOUT' });
  });

  it('an app is ready if each of its features works without Redis', async () => {
    const { status, text } = await statusWhileFrozen((kit) => {
      kit.session({ secret: 'a secret of the test', onError: 'anonymous' });
      kit.rateLimit(limit);
      kit.cache({ ttl: '1m' });
      kit.concurrency({ key, limit: 1 });
      kit.lock({ key, onError: 'allow' });
      kit.idempotency({ onError: 'allow' });
    });
    expect(status).toBe(200);
    expect(JSON.parse(text).ok).toBe(false);
  });

  it('the option requireRedis overrides the failure policies', async () => {
    const withSession = (kit: RedisKit) => kit.session({ secret: 'a secret of the test' });
    expect((await statusWhileFrozen(withSession, { requireRedis: false })).status).toBe(200);
    expect((await statusWhileFrozen((kit) => kit.rateLimit(limit), { requireRedis: true })).status).toBe(503);
  });

  it('a liveness probe is answered with 200 and sends no command', async () => {
    const kit = kitForTest({ url: server.url });
    await kit.ready();
    const address = await serveHealth(kit, { liveness: true });
    const commands = await countCommands(server.url, () => send(`${address}/ready`));
    expect(commands).toEqual([]);
    server.freeze();
    expect((await send(`${address}/ready`)).status).toBe(200);
  });

  it('concurrent probes share one command', async () => {
    const kit = kitForTest({ url: server.url });
    await kit.ready();
    let arrived = 0;
    const count = (_req: unknown, _res: unknown, next: () => void) => {
      arrived++;
      next();
    };
    const address = await serve(express().use(count, kit.health()));
    const commands = await countCommands(server.url, async () => {
      server.freeze();
      const answers = Array.from({ length: 10 }, () => send(address));
      await until('all probes have arrived', () => arrived === 10);
      server.thaw();
      for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
    });
    expect(commands.map(([name]) => name)).toEqual(['SET']);
  });

  it('a probe shows neither addresses nor warnings, unless details are wanted', async () => {
    const kit = kitForTest({ url: server.url });
    await kit.ready();
    const app = express()
      .use('/brief', kit.health())
      .use('/full', kit.health({ details: true }));
    const address = await serve(app);
    const full = JSON.parse((await send(`${address}/full`)).text);
    expect(full).toMatchObject({ ok: true, warnings: expect.arrayContaining([expect.any(String)]) });
    expect(Object.keys(JSON.parse((await send(`${address}/brief`)).text))).toEqual([
      'ok',
      'mode',
      'latencyMs',
    ]);
    await server.kill();
    const [brief, details] = await Promise.all([send(`${address}/brief`), send(`${address}/full`)]);
    await server.restart();
    expect(brief.text).not.toContain(String(server.port));
    expect(JSON.parse(details.text)).toMatchObject({ ok: false, error: expect.any(String), warnings: [] });
  });
});
