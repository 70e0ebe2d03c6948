import { readFileSync } from 'node:fs';
import express from 'express';
import request from 'supertest';
import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';

const DOCS = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');

describeWithServers('a Redis user with restricted rights', () => {
  it('the kit needs no Redis commands but those that the docs list', async () => {
    const [, listed = ''] = /restricted rights needs (.*)$/m.exec(DOCS) ?? [];
    const commands = listed.match(/\b[A-Z]{3,}\b/g) ?? [];
    expect(commands.length).toBeGreaterThan(15);
    const server = await startRedis();
    onTestFinished(() => server.stop());
    await withPlainClient(server.url, async (client) => {
      const rights = commands.map((name) => `+${name.toLowerCase()}`);
      await client.sendCommand([
        'ACL',
        'SETUSER',
        'app',
        'on',
        '>secret',
        '~*',
        '&t-app:*',
        '-@all',
        ...rights,
      ]);
    });
    const cachePolicies = { few: { ttl: '1m', maxEntries: 1 } } as const;
    const url = `${server.url.replace('redis://', 'redis://app:secret@')}/1`;
    const kit = kitForTest({ url, prefix: 't-app', cachePolicies });
    await kit.ready();
    const errors = eventsOf(kit, 'error');
    const app = express()
      .use(
        kit.session({ secret: 'a secret of the tests', maxPerUser: { limit: 1, onExceed: 'evict-oldest' } }),
      )
      .use(
        kit.rateLimit({
          policies: [
            { algorithm: 'sliding-window', limit: 9, window: '1m' },
            { algorithm: 'token-bucket', capacity: 9, refill: { tokens: 1, per: '1s' } },
          ],
          refundWhen: () => true,
        }),
      )
      .get('/in', kit.lock({ key: () => 'in' }), async (req, res) => {
        await req.session.login('ann');
        res.end();
      })
      .post('/once', kit.idempotency({ inFlight: 'wait', lease: '200ms' }), async (req, res) => {
        await new Promise((resolve) => setTimeout(resolve, 150));
        res.status(req.idempotency?.key === 'again' ? 503 : 200).end();
      })
      .get('/page', kit.cache({ ttl: '1m' }), (_req, res) => void res.send('page'));
    for (const path of ['/in', '/in', '/page', '/page']) await request(app).get(path).expect(200);
    const post = (key: string) => request(app).post('/once').set('Idempotency-Key', key);
    await Promise.all([post('k').expect(200), post('k').expect(200)]);
    await post('again').expect(503);
    for (const key of ['a', 'b']) await kit.remember(key, { policy: 'few', tags: ['t'] }, () => key);
    await kit.invalidate({ tags: 't' });
    const slow = () => new Promise<string>((resolve) => setTimeout(resolve, 100, 'slow'));
    const waiting = kitForTest({ url, prefix: 't-app' });
    await Promise.all([kit.remember('c', '1m', slow), waiting.remember('c', '1m', slow)]);
    const limiter = kit.limiter({ algorithm: 'sliding-window', limit: 300, window: '1m' });
    for (let hit = 0; hit < 200; hit++) await limiter.consume('ann', { cost: 1 });
    await limiter.refund(await limiter.consume('ann'));
    await limiter.reset('ann');
    app.get('/busy', kit.concurrency({ limit: 1, wait: '2m', lease: '300ms' }), (_req, res) => {
      setTimeout(() => res.end(), 150);
    });
    await Promise.all([1, 2].map(() => request(app).get('/busy').expect(200)));
    const first = await kit.locks.acquire('a', { lease: '1h' });
    const next = waiting.locks.acquire('a');
    await until('it waits', async () => (await kit.locks.inspect('a')).waiters === 1);
    await first.extend();
    await first.release();
    await next;
    await kit.locks.forceRelease('a');
    const counter = kit.expressRateLimitStore();
    await counter.increment('ann');
    await counter.resetAll();
    expect(await kit.sessions.count()).toBe(1);
    expect(await kit.sessions.revokeAll('ann')).toBe(1);
    const store = kit.sessionStore({ compatible: 'connect-redis' });
    const cookie = { originalMaxAge: null, path: '/' };
    await new Promise((resolve) => store.set('x', { cookie } as never, resolve));
    await new Promise((resolve) => store.get('x', resolve));
    await new Promise<void>((resolve) => store.touch('x', { cookie } as never, resolve));
    await new Promise((resolve) => store.clear(resolve));
    expect(errors).toEqual([]);
    const denied = await withPlainClient(server.url, (client) => client.sendCommand(['ACL', 'LOG']));
    expect(denied).toEqual([]);
  });
});
