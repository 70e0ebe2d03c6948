import { randomBytes } from 'node:crypto';
import type { RequestHandler } from 'express';
import { expect, it } from 'vitest';
import { eventsOf } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { gated, shop } from './shop.ts';

onEveryStore('kit.idempotency', (makeKit) => {
  it('a request with a new key runs, and its retry gets the recorded response', async () => {
    const kit = makeKit();
    const replayed = eventsOf(kit, 'idempotency:replayed');
    const { order, runs } = await shop(kit);
    const first = await order('"k1"');
    expect([first.status, JSON.parse(first.text)]).toEqual([201, { run: 1, key: 'k1', attempt: 1 }]);
    expect(first.headers['idempotent-replayed']).toBeUndefined();
    const second = await order('"k1"');
    expect([second.status, second.text]).toEqual([201, first.text]);
    expect(second.headers['idempotent-replayed']).toBe('true');
    expect(second.headers['content-type']).toBe(first.headers['content-type']);
    expect(runs()).toBe(1);
    expect(replayed).toEqual([{ key: 'k1' }]);
    expect(JSON.parse((await order('"k2"')).text)).toMatchObject({ run: 2 });
  });

  it('a replay of a binary body is byte for byte the recorded response', async () => {
    const bytes = randomBytes(100_000);
    const { order } = await shop(makeKit(), {}, (_req, res) => {
      res.type('application/octet-stream');
      res.write(bytes.subarray(0, 10_000));
      setImmediate(() => res.end(bytes.subarray(10_000)));
    });
    expect((await order('k')).body.equals(bytes)).toBe(true);
    const second = await order('k');
    expect(second.body.equals(bytes)).toBe(true);
    expect(second.headers['idempotent-replayed']).toBe('true');
  });

  it('a response is recorded before its last byte arrives, so 100 immediate retries are replayed', async () => {
    const { order, runs } = await shop(makeKit());
    for (let turn = 0; turn < 100; turn++) {
      const key = `k${turn}`;
      await order(key);
      expect((await order(key)).headers['idempotent-replayed'], key).toBe('true');
    }
    expect(runs()).toBe(100);
  });

  it('a retry is refused with 409 and Retry-After while the first request is in flight', async () => {
    const kit = makeKit();
    const refused = eventsOf(kit, 'idempotency:refused');
    const { handler, open, begun } = gated();
    const { order, runs } = await shop(kit, {}, handler);
    const first = order('k');
    await begun;
    const second = await order('k');
    expect(second.status).toBe(409);
    expect(second.headers['content-type']).toContain('application/problem+json');
    expect(second.headers['retry-after']).toBe('1');
    open();
    expect((await first).status).toBe(201);
    expect((await order('k')).headers['idempotent-replayed']).toBe('true');
    expect(runs()).toBe(1);
    expect(refused).toEqual([{ key: 'k', reason: 'in-flight' }]);
  });

  it('a request with a used key but another method, URL or body is refused with 422, in flight and afterwards', async () => {
    const { handler, open, begun } = gated();
    const { order, runs } = await shop(makeKit(), {}, handler);
    const others = [{ method: 'PATCH' }, { path: '/orders?x' }, { body: '{"item":"coffee"}' }];
    const first = order('k');
    await begun;
    for (const other of others) expect((await order('k', other)).status).toBe(422);
    open();
    await first;
    for (const other of others) {
      const { status, headers, text } = await order('k', other);
      expect([status, headers['retry-after']]).toEqual([422, undefined]);
      expect(JSON.parse(text)).toMatchObject({ status: 422, title: 'Unprocessable Content' });
    }
    expect(runs()).toBe(1);
  });

  it('only one of twenty simultaneous requests with the same key runs', async () => {
    const { handler, open } = gated();
    const { order, runs } = await shop(makeKit(), {}, handler);
    const answers = Array.from({ length: 20 }, () => order('k'));
    let settled = 0;
    for (const answer of answers) void answer.then(() => settled++);
    await until('all but one are refused', () => settled === 19);
    open();
    const statuses = (await Promise.all(answers)).map(({ status }) => status).sort();
    expect(statuses).toEqual([201, ...Array.from({ length: 19 }, () => 409)]);
    expect(runs()).toBe(1);
  });

  it.each([401, 403, 408, 409, 425, 429, 502, 503, 504])(
    'a %i response is not final: a retry runs as the second attempt',
    async (status) => {
      const kit = makeKit();
      const recovered = eventsOf(kit, 'idempotency:recovered');
      const handler: RequestHandler = (req, res) => {
        const attempt = req.idempotency?.attempt ?? 0;
        res.status(attempt === 1 ? status : 200).json({ attempt });
      };
      const { order, runs } = await shop(kit, {}, handler);
      expect((await order('k')).status).toBe(status);
      expect((await order('k', { body: '{}' })).status, 'the key keeps its fingerprint').toBe(422);
      const second = await order('k');
      expect([second.status, second.text]).toEqual([200, '{"attempt":2}']);
      expect((await order('k')).headers['idempotent-replayed']).toBe('true');
      expect(runs()).toBe(2);
      expect(recovered, 'no attempt was recovered').toEqual([]);
    },
  );

  it.each([200, 204, 302, 400, 404, 422, 500])('a %i response is final and is replayed', async (status) => {
    const { order, runs } = await shop(makeKit(), {}, (_req, res) => void res.status(status).end());
    expect((await order('k')).status).toBe(status);
    const second = await order('k');
    expect([second.status, second.headers['idempotent-replayed'], runs()]).toEqual([status, 'true', 1]);
    if (status === 204) expect(second.headers['content-length']).toBeUndefined();
  });

  it('the option `store` decides which statuses are final', async () => {
    const { order, runs } = await shop(
      makeKit(),
      { store: (status) => status === 503 },
      (_req, res) => void res.status(runs() === 1 ? 500 : 503).end(),
    );
    for (const status of [500, 503, 503]) expect((await order('k')).status).toBe(status);
    expect(runs()).toBe(2);
  });

  it('a response is final, and recorded, when the option `store` throws', async () => {
    const kit = makeKit();
    const errors = eventsOf(kit, 'error');
    const store = () => {
      throw new Error('on purpose');
    };
    const { order, runs } = await shop(kit, { store });
    for (let turn = 0; turn < 2; turn++) expect((await order('k')).status).toBe(201);
    expect(runs()).toBe(1);
    expect(errors).toMatchObject([{ feature: 'idempotency', error: { message: 'on purpose' } }]);
  });

  it('a response larger than `maxBody` is sent, and its retries are refused with 409', async () => {
    const kit = makeKit();
    const unkept = eventsOf(kit, 'idempotency:unkept');
    const { order, runs } = await shop(kit, { maxBody: 1_000 }, (_req, res) => {
      res.write('x'.repeat(600));
      res.end('x'.repeat(600));
    });
    expect((await order('k')).text).toBe('x'.repeat(1_200));
    for (let turn = 0; turn < 2; turn++) {
      const { status, headers, text } = await order('k');
      expect([status, headers['retry-after']]).toEqual([409, undefined]);
      expect(JSON.parse(text).detail).toContain('too large');
    }
    expect(runs()).toBe(1);
    expect(unkept).toEqual([{ key: 'k', url: '/orders', bytes: 1_200 }]);
  });

  it('a response of exactly `maxBody` bytes is recorded', async () => {
    const { order } = await shop(makeKit(), { maxBody: 5 }, (_req, res) => void res.end('12345'));
    await order('k');
    expect((await order('k')).text).toBe('12345');
  });

  it('a response stays recorded for `retention`; then a request with its key runs again', async () => {
    const { order, runs } = await shop(makeKit(), { retention: '300ms' });
    await order('k');
    await until('it runs again', async () => (await order('k')).text.includes('"run":2'));
    expect(runs()).toBe(2);
  });
});
