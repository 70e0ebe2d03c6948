import { RESP_TYPES } from 'redis';
import { expect, it, onTestFinished } from 'vitest';
import type { KitOptions } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProxy } from '../support/proxy.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { numbered, type ShopOptions, shop } from './shop.ts';

async function start(options: KitOptions = {}) {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const kit = kitForTest({ url: server.url, commandTimeout: '300ms', ...options });
  await kit.ready();
  return { server, kit, errors: eventsOf(kit, 'error') };
}

/** Reads the key and the value of the only record. */
async function recordOn({ url }: RedisServer): Promise<{ readonly key: string; readonly value: string }> {
  return withPlainClient(url, async (client) => {
    const [key = ''] = await client.keys('*:idempotency:*');
    return { key, value: key === '' ? '' : ((await client.get(key)) ?? '') };
  });
}

describeWithServers('kit.idempotency while Redis is unavailable', () => {
  it('a request with a key gets 503 with Retry-After during an outage, and a request without a key runs', async () => {
    const { server, kit, errors } = await start();
    const { order, runs } = await shop(kit);
    server.freeze();
    const elapsedMs = stopwatch();
    const { status, headers } = await order('k');
    expect([status, headers['retry-after'], runs()]).toEqual([503, '1', 0]);
    expect(elapsedMs()).toBeLessThan(2_000);
    expect((await order(undefined)).status).toBe(201);
    expect(errors).toMatchObject([{ feature: 'idempotency' }]);
    server.thaw();
    await until('it runs', async () => (await order('k')).status === 201);
    expect(JSON.parse((await order('k')).text), 'the refused request has not run').toMatchObject({
      attempt: 1,
    });
  });

  it("a request with a key runs without idempotency during an outage with onError: 'allow'", async () => {
    const { server, kit } = await start();
    const { order } = await shop(kit, { onError: 'allow' });
    server.freeze();
    for (const run of [1, 2]) {
      const { status, text } = await order('k');
      expect([status, JSON.parse(text)]).toEqual([201, { run }]);
    }
    server.thaw();
  });

  it.each(['deny', 'allow'] as const)(
    'a response that cannot be recorded is sent, and is recorded after the outage, with onError: %s',
    async (onError) => {
      const { server, kit, errors } = await start();
      const first = numbered();
      const { order, runs } = await shop(kit, { onError }, (req, res, next) => {
        if (runs() === 1) server.freeze();
        return first(req, res, next);
      });
      const elapsedMs = stopwatch();
      const { status, text } = await order('k');
      expect([status, JSON.parse(text)]).toEqual([201, { run: 1, key: 'k', attempt: 1 }]);
      expect(elapsedMs()).toBeLessThan(2_000);
      expect(errors).toMatchObject([{ feature: 'idempotency' }]);
      server.thaw();
      await until('it is on record', async () => (await recordOn(server)).value.includes('"run":1'));
      await until('Redis is asked again', async () => (await order('k')).status === 201);
      const repeat = await order('k');
      expect([repeat.text, repeat.headers['idempotent-replayed'], runs()]).toEqual([text, 'true', 1]);
    },
  );

  it('a response is recorded even if Redis lost its data while the handler ran', async () => {
    const { server, kit } = await start();
    const { order, runs } = await shop(kit, {}, async (_req, res) => {
      await server.kill();
      res.send('done');
    });
    expect((await order('k')).text).toBe('done');
    await server.restart();
    await until('it is on record', async () => (await recordOn(server)).value.includes('done'));
    await until('Redis is asked again', async () => (await order('k')).status === 200);
    expect([(await order('k')).headers['idempotent-replayed'], runs()]).toEqual(['true', 1]);
  });
});

describeWithServers('An idempotency record', () => {
  async function behindProxy(options: ShopOptions = {}) {
    const { server } = await start();
    const proxy = await startProxy(server);
    const kit = kitForTest({ url: proxy.url });
    await kit.ready();
    let losesAtEnd = false;
    const answer = numbered();
    const made = await shop(kit, options, (req, res, next) => {
      if (losesAtEnd) proxy.loseNextReply();
      losesAtEnd = false;
      return answer(req, res, next);
    });
    await made.order('warm-up');
    await made.order('warm-up');
    const loseAtEnd = () => {
      losesAtEnd = true;
    };
    return { ...made, kit, proxy, loseAtEnd };
  }

  it('an attempt is discarded when the reply that granted it was lost: a retry runs at once as the first attempt', async () => {
    const { order, proxy, runs } = await behindProxy({ lease: '1h' });
    proxy.loseNextReply();
    expect([(await order('k')).status, runs(), proxy.cuts]).toEqual([503, 1, 1]);
    await until('it runs', async () => (await order('k')).status === 201);
    expect(JSON.parse((await order('k')).text)).toEqual({ run: 2, key: 'k', attempt: 1 });
  });

  it('a response is replayed even if the reply to the command that recorded it was lost', async () => {
    const { order, proxy, loseAtEnd, runs } = await behindProxy({ lease: '1h' });
    loseAtEnd();
    const first = await order('k');
    expect([first.status, proxy.cuts]).toEqual([201, 1]);
    await until('Redis is asked again', async () => (await order('k')).status === 201);
    const second = await order('k');
    expect([second.text, second.headers['idempotent-replayed'], runs()]).toEqual([first.text, 'true', 2]);
  });

  it('an attempt is not reported as lost if the reply to its discard was lost', async () => {
    const { order, proxy, loseAtEnd, kit } = await behindProxy({ store: () => false });
    const lost = eventsOf(kit, 'idempotency:lost');
    loseAtEnd();
    expect((await order('k')).status).toBe(201);
    const discards = () => proxy.scripts.flat().filter((digest, _, all) => digest === all[1]).length;
    const sent = discards();
    await until('the discard is repeated', () => discards() > sent);
    // The reply to this request arrives after that to the repeated discard.
    expect(JSON.parse((await order('k')).text)).toMatchObject({ key: 'k', attempt: 2 });
    expect([proxy.cuts, lost]).toEqual([1, []]);
  });

  it('a record that Redis lost while the request runs is written again by the next renewal', async () => {
    const { server, kit } = await start();
    stopTime();
    let open: () => void = () => undefined;
    const { order, runs } = await shop(kit, { lease: 60_000 }, async (_req, res) => {
      await new Promise<void>((resolve) => {
        open = resolve;
      });
      res.send('done');
    });
    const first = order('k');
    await until('it runs', () => runs() === 1);
    await withPlainClient(server.url, (client) => client.flushAll());
    await passTime(20_000);
    await until('it is there', async () => (await recordOn(server)).key !== '');
    expect((await order('k')).status).toBe(409);
    open();
    expect((await first).text).toBe('done');
    expect([(await order('k')).headers['idempotent-replayed'], runs()]).toEqual(['true', 1]);
  });

  it.each([
    ['that is garbage', 'ERR_REDIS_KIT_CORRUPT', () => 'garbage'],
    ['that was cut off', 'ERR_REDIS_KIT_CORRUPT', (value: Buffer) => value.subarray(0, 60)],
    [
      'whose response was damaged',
      'ERR_REDIS_KIT_CORRUPT',
      (value: Buffer) => value.subarray(0, value.length - 1),
    ],
    ['of a newer format', 'ERR_REDIS_KIT_NEWER_FORMAT', () => 'I\u0002later'],
  ] as const)('a record %s is reported and not changed, and its request gets 503', async (_, code, spoil) => {
    for (const onError of ['deny', 'allow'] as const) {
      const { server, kit, errors } = await start();
      const { order, runs } = await shop(kit, { onError });
      await order('k');
      const { key } = await recordOn(server);
      const spoiled = await withPlainClient(server.url, async (client) => {
        const bytes = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
        const value = spoil((await bytes.get(key)) as Buffer);
        await client.set(key, value, { PX: 600_000 });
        return Buffer.from(value);
      });
      for (let turn = 0; turn < 2; turn++) {
        const { status, headers } = await order('k');
        expect([status, headers['retry-after'], runs()]).toEqual([503, '1', 1]);
      }
      expect(errors).toMatchObject([{ feature: 'idempotency', error: { code } }]);
      expect(Buffer.from((await recordOn(server)).value).equals(Buffer.from(spoiled.toString()))).toBe(true);
    }
  });

  it('a request gets 503 when its record has another Redis type', async () => {
    const { server, kit } = await start();
    const { order, runs } = await shop(kit);
    await order('k');
    const { key } = await recordOn(server);
    await withPlainClient(server.url, async (client) => {
      await client.del(key);
      await client.lPush(key, 'x');
      await client.pExpire(key, 600_000);
    });
    expect([(await order('k')).status, runs()]).toEqual([503, 1]);
  });
});

it('a memory engine without space for a response records that the request has run', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const errors = eventsOf(kit, 'error');
  const body = Buffer.alloc(65 * 2 ** 20);
  const { order, runs } = await shop(kit, { maxBody: 2 ** 27 }, (_req, res) => void res.end(body));
  expect((await order('k')).body.length).toBe(body.length);
  expect([(await order('k')).status, runs()]).toEqual([409, 1]);
  expect(errors).toMatchObject([{ error: { code: 'ERR_REDIS_KIT_FULL' } }]);
});
