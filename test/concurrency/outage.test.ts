import { expect, it, onTestFinished } from 'vitest';
import type { ConcurrencyOptions } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProgram } from '../support/program.ts';
import { startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';
import { busySite } from './busy.ts';

describeWithServers('A concurrency limit during an outage of Redis', () => {
  async function start(options: Partial<ConcurrencyOptions> = {}) {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url, commandTimeout: '300ms' });
    await kit.ready();
    const key = `${kit.prefix}:concurrency:{ann}:1`;
    return { server, kit, key, site: await busySite(kit, options) };
  }

  it.each(['kill', 'freeze'] as const)(
    'each process limits its own requests while Redis is unavailable (%s), and reports the outage once',
    async (how) => {
      const { server, kit, site } = await start();
      const degraded = eventsOf(kit, 'concurrency:degraded');
      await server[how]();
      await site.run('/1');
      expect((await site.ask('/2')).status).toBe(429);
      site.end();
      await site.run('/3');
      expect((await site.ask('/4')).status).toBe(429);
      site.end();
      expect(degraded).toHaveLength(1);
      await (how === 'kill' ? server.restart() : server.thaw());
    },
  );

  it('waiters get their turn from the in-process fallback during an outage', async () => {
    const { server, site } = await start({ wait: '2m' });
    await server.kill();
    await site.run('/1');
    const second = site.ask('/2');
    // The request asks Redis and then the fallback; no event shows that it waits.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(site.running).toEqual(['/1']);
    site.end();
    await until('it runs', () => site.running.includes('/2'));
    site.end();
    expect((await second).status).toBe(200);
  });

  it('a wait continues after Redis was frozen for longer than the deadline of the request', async () => {
    const { server, kit, key, site } = await start({ wait: '2m', lease: '4s', onError: 'deny' });
    const errors = eventsOf(kit, 'error');
    await site.leave('/left');
    const second = site.ask('/2');
    await withPlainClient(server.url, (client) =>
      until('it waits', async () => (await client.zCard(`${key}:line`)) === 1),
    );
    server.freeze();
    // The waiter asks again when the lease has ended, fails because Redis is frozen, and asks once more.
    await until('the failure is reported', () => errors.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    server.thaw();
    await until('it runs', () => site.running.includes('/2'));
    site.end();
    expect((await second).status).toBe(200);
  });

  it('a request waits for `wait` in total, even if an outage begins during the wait', async () => {
    const { server, key, site } = await start({ wait: '2s' });
    await site.run('/1');
    const elapsedMs = stopwatch();
    const second = site.ask('/2');
    await withPlainClient(server.url, (client) =>
      until('it waits', async () => (await client.exists(`${key}:line`)) === 1),
    );
    await server.kill();
    // Only the in-process fallback counts this request.
    await site.run('/3');
    expect((await second).status).toBe(429);
    expect(elapsedMs()).toBeLessThan(3_900);
    site.end();
  });

  it('all requests pass during an outage if onError is allow, and none if onError is deny', async () => {
    const allowing = await start({ onError: 'allow' });
    await allowing.server.kill();
    await allowing.site.run('/1');
    await allowing.site.run('/2');
    allowing.site.end();
    const denying = await start({ onError: 'deny' });
    await denying.server.kill();
    const { status, headers } = await denying.site.ask('/');
    expect([status, headers['retry-after']]).toEqual([503, '1']);
  });

  it('running requests are counted again after Redis has lost its data', async () => {
    const { server, site } = await start({ lease: '300ms' });
    const { answer } = await site.run('/1');
    await withPlainClient(server.url, (client) => client.flushAll());
    await until('it counts again', async () => {
      const outcome = await site.attempt('/2');
      site.end('/2');
      return outcome === 429;
    });
    site.end();
    expect((await answer).status).toBe(200);
  });

  it('a slot that could not be released while Redis was frozen is released later', async () => {
    const { server, site } = await start({ lease: '1h' });
    const { answer } = await site.run('/1');
    server.freeze();
    site.end();
    expect((await answer).text, 'a failed release is no matter of the client').toBe('/1');
    server.thaw();
    await until('the slot is free', async () => (await site.attempt('/2')) === 'runs');
    site.end();
  });

  it.each(['garbage', 'list'])('a corrupt value (%s) is replaced and reported', async (what) => {
    const { server, kit, key, site } = await start();
    const errors = eventsOf(kit, 'error');
    await withPlainClient(server.url, async (client) => {
      if (what === 'garbage') await client.set(key, 'garbage');
      else await client.lPush(key, 'garbage');
    });
    await site.run('/1');
    expect((await site.ask('/2')).status).toBe(429);
    site.end();
    expect(errors).toMatchObject([{ feature: 'concurrency', error: { code: 'ERR_REDIS_KIT_CORRUPT' } }]);
  });

  it('a slot with a deadline beyond any lease is dropped', async () => {
    const { server, key, site } = await start();
    await withPlainClient(server.url, (client) =>
      client.zAdd(key, [
        { score: Number.POSITIVE_INFINITY, value: 'foreign' },
        { score: Date.now() + 30 * 86_400_000, value: 'far' },
      ]),
    );
    await site.run('/1');
    expect((await site.ask('/2')).status).toBe(429);
    site.end();
  });

  it('the slots of a killed process become free within a lease', async () => {
    const { server, kit, site } = await start({ wait: '2m' });
    const doomed = startProgram(`
      import { createServer, get } from 'node:http';
      const kit = createRedisKit({ url: '${server.url}', prefix: '${kit.prefix}', logger: false });
      const limit = kit.concurrency({ key: () => 'ann', limit: 1, lease: '1s' });
      const server = createServer((req, res) => limit(req, res, () => console.log('runs'))).listen(0, () => {
        get({ port: server.address().port, agent: false });
      });
    `);
    expect(await doomed.line()).toBe('runs');
    const next = site.ask('/next');
    doomed.process.kill('SIGKILL');
    await until('the next one runs', () => site.running.includes('/next'));
    site.end();
    expect((await next).status).toBe(200);
  });

  it('four processes never exceed the limit together', async () => {
    const { server, kit } = await start();
    const programs = Array.from({ length: 4 }, () =>
      startProgram(`
        import { createServer } from 'node:http';
        const kit = createRedisKit({ url: '${server.url}', prefix: '${kit.prefix}', commandTimeout: '1m' });
        await kit.ready();
        const limit = kit.concurrency({ key: () => 'ann', limit: 3, wait: '1m', maxQueue: 1000 });
        const server = createServer((req, res) => limit(req, res, async () => {
          const running = await kit.client.incr('running');
          await kit.client.incr('runs');
          if (running > 3) await kit.client.incr('too-many');
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 5));
          await kit.client.decr('running');
          res.end();
        }));
        await new Promise((resolve) => server.listen(0, resolve));
        const url = 'http://127.0.0.1:' + server.address().port;
        const turns = async () => { for (let turn = 0; turn < 10; turn++) if ((await fetch(url)).status !== 200) throw new Error('refused'); };
        await Promise.all(Array.from({ length: 5 }, turns));
        server.close();
        server.closeAllConnections();
        await kit.close();
      `),
    );
    for (const { ended } of programs) expect(await ended).toEqual({ code: 0, said: '' });
    await withPlainClient(server.url, async (client) => {
      expect(await client.mGet(['runs', 'running', 'too-many'])).toEqual(['200', '0', null]);
    });
  });
});
