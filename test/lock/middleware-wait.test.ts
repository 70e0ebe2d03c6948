import { once } from 'node:events';
import { get } from 'node:http';
import express from 'express';
import { expect, it } from 'vitest';
import type { LockConflict, LockOptions } from '../../src/index.ts';
import { eventsOf } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

onEveryStore('A request that waits for its lock', (makeKit) => {
  async function start(options: Partial<LockOptions> = {}) {
    const kit = makeKit();
    const ran: string[] = [];
    const app = express().set('env', 'test');
    const lock = kit.lock({ key: () => 'a', wait: '2m', ...options });
    app.get('/{*path}', lock, (req, res) => {
      ran.push(req.path);
      res.json({ fence: req.lock?.fence });
    });
    const waiting = (count: number) =>
      until(`${count} wait`, async () => (await kit.locks.inspect('a')).waiters === count);
    return { kit, ran, waiting, address: await serve(app) };
  }

  it('a waiting request runs when its turn comes', async () => {
    const { kit, ran, waiting, address } = await start();
    const held = await kit.locks.acquire('a');
    const answers = [];
    for (let place = 1; place <= 5; place++) {
      answers.push(send(`${address}/${place}`));
      await waiting(place);
    }
    await held.release();
    for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
    expect(ran).toEqual(['/1', '/2', '/3', '/4', '/5']);
    expect(await kit.locks.inspect('a')).toEqual({ held: false, waiters: 0 });
  });

  it('a waiting request is refused with 503, Retry-After and problem details when its turn does not come', async () => {
    const { kit, ran, waiting, address } = await start({ wait: '150ms' });
    await kit.locks.acquire('a');
    const { status, headers, text } = await send(address);
    expect([status, headers['retry-after']]).toEqual([503, '1']);
    expect(headers['content-type']).toContain('application/problem+json');
    expect(JSON.parse(text)).toMatchObject({ status: 503, title: 'Service Unavailable' });
    expect(ran).toEqual([]);
    await waiting(0);
  });

  it('the option `handler` responds to a request that is refused after its wait', async () => {
    const conflicts: LockConflict[] = [];
    const { kit, address } = await start({
      wait: '150ms',
      handler: (_req, res, _next, conflict) => {
        conflicts.push(conflict);
        res.status(423).end();
      },
    });
    await kit.locks.acquire('a');
    expect((await send(address)).status).toBe(423);
    expect(conflicts).toEqual([{ key: 'a', hasWaited: true, expiresInMs: expect.any(Number) }]);
  });

  it('a waiting request leaves the queue when its client disconnects, and never runs', async () => {
    const { kit, ran, waiting, address } = await start();
    const held = await kit.locks.acquire('a');
    const client = get(`${address}/gone`, { agent: false });
    const gone = once(client, 'error');
    await waiting(1);
    const patient = send(`${address}/patient`);
    await waiting(2);
    client.destroy();
    await gone;
    await waiting(1);
    await held.release();
    expect((await patient).status).toBe(200);
    expect(ran).toEqual(['/patient']);
  });

  it('a request locks all keys that `key` returns, and takes no lock for null', async () => {
    const { kit, address } = await start({
      key: (req) => (req.path === '/none' ? null : ['b', 'a']),
    });
    const held = await kit.locks.acquire('a');
    expect(JSON.parse((await send(`${address}/none`)).text)).toEqual({});
    const answer = send(`${address}/two`);
    await until('it has the one that is free', async () => (await kit.locks.inspect('a')).waiters === 1);
    await held.release();
    expect((await answer).status, 'reading its one fence throws').toBe(500);
    expect((await kit.locks.inspect('b')).held).toBe(false);
  });

  it('a request fails with an error when `key` returns an invalid key', async () => {
    for (const key of ['', [], ['a', ''], [7], {}, undefined]) {
      const { address } = await start({ key: () => key as string });
      expect((await send(address)).status).toBe(500);
    }
  });

  it('a waiting request is refused when the kit closes, even if onError is allow', async () => {
    const { kit, ran, waiting, address } = await start({ onError: 'allow' });
    const held = await kit.locks.acquire('a');
    const answer = send(address);
    await waiting(1);
    const closed = kit.close();
    expect((await answer).status).toBe(503);
    expect((await send(address)).status, 'a later request').toBe(503);
    expect(ran).toEqual([]);
    await held.release();
    await closed;
  });

  it('a waiting request is refused when a lock that it already holds is taken away, even if onError is allow', async () => {
    const { kit, ran, waiting, address } = await start({
      key: () => ['0', 'a'],
      lease: '300ms',
      onError: 'allow',
    });
    const held = await kit.locks.acquire('a');
    const answer = send(address);
    await waiting(1);
    await kit.locks.forceRelease('0');
    const other = await kit.locks.acquire('0');
    // The wait is longer than the lease, so that the loss is noticed even if the process is not subscribed yet.
    await new Promise((resolve) => setTimeout(resolve, 500));
    await held.release();
    expect((await answer).status).toBe(503);
    expect(ran).toEqual([]);
    other.assertHeld();
  });

  it('a request that is granted its lock after a wait emits lock:waited', async () => {
    const { kit, waiting, address } = await start();
    const waited = eventsOf(kit, 'lock:waited');
    const held = await kit.locks.acquire('a');
    const answer = send(address);
    await waiting(1);
    await held.release();
    await answer;
    expect(waited).toEqual([{ keys: ['a'], waitedMs: expect.any(Number) }]);
  });
});
