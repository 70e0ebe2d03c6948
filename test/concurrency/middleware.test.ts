import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { pipeline, Readable } from 'node:stream';
import express from 'express';
import { expect, it } from 'vitest';
import type { ConcurrencyRefusal } from '../../src/index.ts';
import { APPS } from '../http/frameworks.ts';
import { gate } from '../idempotency/shop.ts';
import { eventsOf } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';
import { busySite } from './busy.ts';

async function* broken() {
  yield 'begun';
  await null;
  throw new Error('on purpose');
}

onEveryStore('kit.concurrency', (makeKit) => {
  it('up to `limit` requests run at the same time, and the next is refused with 429, Retry-After and problem details', async () => {
    const kit = makeKit();
    const refused = eventsOf(kit, 'concurrency:refused');
    const { run, ask, end } = await busySite(kit, { limit: 3 });
    const running = [await run('/1'), await run('/2'), await run('/3')];
    const refusal = await ask('/4');
    expect([refusal.status, refusal.headers['retry-after']]).toEqual([429, '1']);
    expect(refusal.headers['content-type']).toContain('application/problem+json');
    expect(JSON.parse(refusal.text)).toMatchObject({ status: 429, title: 'Too Many Requests' });
    expect(refused).toEqual([{ key: 'ann', limit: 3, running: 3 }]);
    end('/2');
    expect((await running[1]?.answer)?.status).toBe(200);
    await run('/5');
    end();
  });

  it('each key has its own slots, and a request with the key null is not counted', async () => {
    const { run, ask, end } = await busySite(makeKit(), {
      key: async (req) => req.get('x-user') ?? null,
    });
    await run('/ann', { 'X-User': 'ann' });
    await run('/bob', { 'X-User': 'bob' });
    await run('/nobody');
    await run('/nobody-else');
    expect((await ask('/again', { 'X-User': 'ann' })).status).toBe(429);
    end();
  });

  it('the default key is the client address', async () => {
    const { run, ask, end } = await busySite(makeKit(), { key: undefined });
    await run('/1');
    expect((await ask('/2')).status).toBe(429);
    end();
  });

  it('middleware with equal limits shares slots, and middleware with another limit or name has its own slots', async () => {
    const kit = makeKit();
    const [one, same, other, named] = [
      await busySite(kit, {}),
      await busySite(kit, {}),
      await busySite(kit, { limit: 2 }),
      await busySite(kit, { name: 'uploads' }),
    ];
    await one.run('/1');
    expect((await same.ask('/2')).status).toBe(429);
    await other.run('/3');
    await named.run('/4');
    expect((await named.ask('/5')).status).toBe(429);
    for (const site of [one, other, named]) site.end();
  });

  it('a request takes one slot of a limit that it passes twice, and one slot of each other limit', async () => {
    const kit = makeKit();
    const app = express().set('env', 'test');
    const limit = () => kit.concurrency({ key: () => 'ann', limit: 1 });
    app.use(limit(), limit(), kit.concurrency({ key: () => 'ann', limit: 5 }));
    app.get('/', (_req, res) => void res.send('ran'));
    const address = await serve(app);
    for (let turn = 0; turn < 3; turn++) expect((await send(address)).text).toBe('ran');
  });

  it('a function can set the limit per request', async () => {
    const { run, ask, end } = await busySite(makeKit(), {
      limit: (req) => Number(req.get('x-limit')),
      name: 'reports',
    });
    await run('/1', { 'X-Limit': '1' });
    expect((await ask('/2', { 'X-Limit': '1' })).status).toBe(429);
    await run('/3', { 'X-Limit': '2' });
    expect((await ask('/4', { 'X-Limit': '2' })).status).toBe(429);
    for (const wrong of ['0', '-1', '1.5', 'x']) {
      expect((await ask('/5', { 'X-Limit': wrong })).status, wrong).toBe(500);
    }
    end();
  });

  it.each(['', undefined, 7])('a request with the invalid key %j fails with an error', async (key) => {
    const { ask } = await busySite(makeKit(), { key: () => key as string });
    expect((await ask('/')).status).toBe(500);
  });

  it('the option `handler` receives the refusal', async () => {
    const refusals: ConcurrencyRefusal[] = [];
    const { run, ask, end } = await busySite(makeKit(), {
      handler: (_req, res, _next, refusal) => {
        refusals.push(refusal);
        res.status(503).send('busy');
      },
    });
    await run('/1');
    expect((await ask('/2')).text).toBe('busy');
    expect(refusals).toEqual([{ key: 'ann', limit: 1, running: 1, hasWaited: false }]);
    end();
  });

  it('a client that sends 100 consecutive requests is never refused because of the slot of its last request', async () => {
    const { ask } = await busySite(makeKit(), {}, (_req, res) => void res.json({ done: true }));
    for (let turn = 0; turn < 100; turn++) expect((await ask('/')).status).toBe(200);
  });

  it('the slot of a handler that throws is released', async () => {
    const { ask } = await busySite(makeKit(), {}, () => {
      throw new Error('on purpose');
    });
    for (let turn = 0; turn < 3; turn++) expect((await ask('/')).status).toBe(500);
  });

  it('the slot of a handler that destroys its response is released', async () => {
    const { ask, begun } = await busySite(makeKit(), {}, (req, res) => {
      if (req.path === '/after') res.end();
      else if (req.path === '/1') res.destroy();
      else pipeline(Readable.from(broken()), res, () => undefined);
    });
    for (const path of ['/1', '/2']) {
      await ask(path).catch(() => undefined);
      await until('the slot is free', async () => (await ask('/after')).status === 200);
    }
    expect(begun).toContain('/2');
  });

  it('a request whose client has disconnected keeps its slot until its handler ends', async () => {
    const { leave, run, ask, end } = await busySite(makeKit(), { lease: '1h' });
    await leave('/left');
    expect((await ask('/2')).status).toBe(429);
    end('/left');
    await run('/3');
    end();
  });

  it('a request whose client has disconnected keeps its slot for one lease at most if its handler stops without an end', async () => {
    stopTime();
    const { leave, ask, attempt, end } = await busySite(makeKit(), { lease: 60_000 });
    await leave('/left');
    expect((await ask('/2')).status).toBe(429);
    await passTime(60_000);
    await until('the slot is free', async () => (await attempt('/3')) === 'runs');
    end();
  });

  it('a request whose client disconnected before the request got a slot takes no slot, and its handler does not run', async () => {
    const { opened: asked, open: isAsked } = gate();
    const site = await busySite(makeKit(), {
      lease: '1h',
      key: async (req) => {
        isAsked();
        if (req.path === '/gone') await once(req.socket, 'close');
        return 'ann';
      },
    });
    const client = get(`${site.address}/gone`, { agent: false }).on('error', () => undefined);
    await asked;
    client.destroy();
    await until('another request runs', async () => (await site.attempt('/2')) === 'runs');
    expect(site.begun).toEqual(['/2']);
    site.end();
  });

  it('a slot is renewed while its request runs', async () => {
    stopTime();
    const { run, ask, end } = await busySite(makeKit(), { lease: 60_000 });
    await run('/1');
    for (let third = 1; third <= 8; third++) {
      await passTime(20_000);
      expect((await ask('/2')).status).toBe(429);
    }
    end();
    await run('/3');
    end();
  });
});

onEveryStore('kit.concurrency in different frameworks', (makeKit) => {
  it.each(APPS)('kit.concurrency works under %s', async (_, makeApp) => {
    const app = makeApp();
    app.use(makeKit().concurrency({ key: () => 'a', limit: 1 }));
    app.use((_req, res) => void res.end('ran'));
    const address = await serve(app);
    for (let turn = 0; turn < 3; turn++) expect((await send(address)).text).toBe('ran');
  });

  it('kit.concurrency works on plain node:http', async () => {
    const limit = makeKit().concurrency<IncomingMessage>({ key: (req) => req.url ?? null, limit: 1 });
    const address = await serve((req, res) => limit(req, res, () => res.end('ran')));
    for (let turn = 0; turn < 3; turn++) expect((await send(address)).text).toBe('ran');
  });
});
