import express from 'express';
import { describe, expect, it } from 'vitest';
import type { BorrowedClient } from '../../src/index.ts';
import { CLUSTER_CLIENTS, STANDALONE_CLIENTS } from '../support/clients.ts';
import { canStartServers, clusterNodes, redisUrl } from '../support/context.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

/** The same short tests of the features with each kind of client. */
function features(borrow: () => Promise<BorrowedClient>): void {
  it('a session that one kit has saved is loaded by another kit', async () => {
    const client = await borrow();
    const prefix = testPrefix();
    const addresses = await Promise.all(
      [0, 1].map(() => {
        const app = express().use(
          kitForTest({ client, prefix }).session({ secret: 'a secret for this test' }),
        );
        app.get('/', (req, res) => {
          const visits = Number(Reflect.get(req.session, 'visits') ?? 0) + 1;
          Object.assign(req.session, { visits });
          res.send(`visit ${visits} äää`);
        });
        return serve(app);
      }),
    );
    const first = await send(addresses[0] ?? '');
    const [cookie = ''] = (first.headers['set-cookie'] ?? []).map((field) => field.split(';')[0] ?? '');
    expect(first.text).toBe('visit 1 äää');
    expect((await send(addresses[1] ?? '', { headers: { cookie } })).text).toBe('visit 2 äää');
  });

  it('a limit is exact under concurrent requests of two kits', async () => {
    const client = await borrow();
    const prefix = testPrefix();
    const policy = { algorithm: 'sliding-window', limit: 7, window: '1h' } as const;
    const limiters = [0, 1].map(() => kitForTest({ client, prefix }).limiter(policy));
    const decisions = await Promise.all(
      Array.from({ length: 20 }, (_, index) => limiters[index % 2]?.consume('a client')),
    );
    expect(decisions.filter((decision) => decision?.allowed)).toHaveLength(7);
  });

  it('a purge by one kit removes the local copies of another kit', async () => {
    const client = await borrow();
    const prefix = testPrefix();
    const [reader, purger] = [kitForTest({ client, prefix }), kitForTest({ client, prefix })];
    let loads = 0;
    const read = () => reader.remember('a value', { ttl: '1h', tags: ['a'] }, () => ++loads);
    await until('a read is answered from the local copy', async () => {
      await read();
      await purger.invalidate({ tags: ['a'] });
      const before = await read();
      const after = await read();
      return before === after;
    });
    const before = await read();
    await purger.invalidate({ tags: ['a'] });
    await until('the value is loaded again', async () => (await read()) !== before);
  });

  it('waiters acquire a lock in their order as soon as it is released', async () => {
    const client = await borrow();
    const prefix = testPrefix();
    const [one, two] = [kitForTest({ client, prefix }), kitForTest({ client, prefix })];
    const held = await one.locks.acquire('a');
    const order: number[] = [];
    const fences: number[] = [held.fence];
    const waiters: Promise<void>[] = [];
    for (const [place, kit] of [two, one, two].entries()) {
      const acquired = kit.locks.acquire('a', { wait: '1m' });
      waiters.push(
        acquired.then(async (lock) => {
          order.push(place);
          fences.push(lock.fence);
          await lock.release();
        }),
      );
      await until('it waits', async () => (await one.locks.inspect('a')).waiters === place + 1);
    }
    await held.release();
    await Promise.all(waiters);
    expect(order).toEqual([0, 1, 2]);
    expect(fences).toEqual(fences.toSorted((a, b) => a - b));
  });

  it('a scan visits the keys of all nodes', async () => {
    const client = await borrow();
    const kit = kitForTest({ client });
    const store = kit.sessionStore();
    const cookie = { originalMaxAge: null } as never;
    for (const id of ['a', 'b', 'c', 'd']) await store.set(id, { cookie });
    expect(await store.length()).toBe(4);
  });
}

describe.each(Object.entries(STANDALONE_CLIENTS))('the features with %s', (_, create) => {
  features(() => {
    const { hostname, port } = new URL(redisUrl());
    return create({ host: hostname, port: Number(port) });
  });
});

describe.skipIf(!canStartServers())('on a Cluster', () => {
  describe.each(Object.entries(CLUSTER_CLIENTS))('the features with %s', (_, create) => {
    features(() => create(clusterNodes()));
  });
});
