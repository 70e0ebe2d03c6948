import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import express from 'express';
import { describe, expect, it } from 'vitest';
import type { RedisKit } from '../../../src/index.ts';
import { redisUrl } from '../../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

/** Bytes on the heap after a garbage collection. */
async function heapBytes(): Promise<number> {
  for (let round = 0; round < 4; round++) {
    // A dereferenced WeakRef keeps its target until the end of the turn.
    await setImmediate();
    collectGarbage();
  }
  return process.memoryUsage().heapUsed;
}

/** Bytes per tenant that remain on the heap after `use` was called for each. */
async function bytesPerTenant(
  tenants: number,
  use: (kit: RedisKit, tenant: string) => unknown,
): Promise<number> {
  const kit = kitForTest({ url: 'memory:' });
  await kit.namespace('warm-up').remember('k', '1h', () => 0);
  const before = await heapBytes();
  for (let index = 0; index < tenants; index++) {
    await use(kit, `tenant-${index}`);
    if (index % 100 === 0) await setImmediate();
  }
  return ((await heapBytes()) - before) / tenants;
}

describe('many namespaces', () => {
  it('a namespace that the app no longer references uses no memory', async () => {
    expect(await bytesPerTenant(4_000, (kit, tenant) => void kit.namespace(tenant))).toBeLessThan(200);
  });

  it('a namespace that the app keeps uses less than 8 kB of memory', async () => {
    const kept: RedisKit[] = [];
    expect(await bytesPerTenant(4_000, (kit, tenant) => kept.push(kit.namespace(tenant)))).toBeLessThan(
      8_192,
    );
    expect(kept).toHaveLength(4_000);
  });

  it('a namespace with one cached value uses less than 8 KiB of memory', async () => {
    const remember = (kit: RedisKit, tenant: string) =>
      kit.namespace(tenant).remember('k', '1h', () => tenant);
    expect(await bytesPerTenant(1_500, remember)).toBeLessThan(8_192);
  });

  it('the repeated use of a hundred namespaces does not increase memory', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const round = async () => {
      for (let index = 0; index < 2_000; index++) {
        await kit.namespace(`t${index % 100}`).remember('k', '1h', () => index);
        if (index % 100 === 0) await setImmediate();
      }
      return heapBytes();
    };
    const before = await round();
    expect((await round()) - before).toBeLessThan(1_000_000);
  });
});

describeOnBothEngines('the namespaces of a kit', (url) => {
  it("kit.namespace() returns the same namespace for equal names, and 'a:b' is the namespace 'b' of 'a'", () => {
    const kit = kitForTest({ url: url() });
    const tenant = kit.namespace('a');
    expect(kit.namespace('a')).toBe(tenant);
    expect(kit.namespace('a:b')).toBe(tenant.namespace('b'));
    expect(kit.namespace('b')).not.toBe(tenant);
    expect(kitForTest({ url: url() }).namespace('a')).not.toBe(tenant);
  });

  it('two calls of kit.namespace() with the same name cannot create two limiters with the same name', () => {
    const kit = kitForTest({ url: url() });
    const policy = { algorithm: 'sliding-window', name: 'api', limit: 3, window: '1m' } as const;
    kit.namespace('a').limiter(policy);
    expect(() => kit.namespace('a').limiter(policy)).toThrow(/'api' exists already.*at start-up/);
    kit.namespace('b').limiter(policy);
    kit.limiter(policy);
  });

  it('namespaces share no value, local copy, flight or purge, even if a key resembles the name of another namespace', async () => {
    const kit = kitForTest({ url: url() });
    const kits = { root: kit, a: kit.namespace('a'), 'a:b': kit.namespace('a:b'), b: kit.namespace('b') };
    const keys = ['k', 'a\nk', '>a\nk', ':k', 'b:k', '>a:b\n'];
    const all = Object.entries(kits).flatMap(([name, each]) => keys.map((key) => ({ name, each, key })));
    const ask = (tag: string) =>
      Promise.all(
        all.map(({ name, each, key }) =>
          each.remember(key, { ttl: '1h', tags: ['t'] }, async () => {
            await setImmediate();
            return `${tag} ${name} ${key}`;
          }),
        ),
      );
    const first = all.map(({ name, key }) => `1 ${name} ${key}`);
    expect(await ask('1')).toEqual(first);
    expect(await ask('2')).toEqual(first);
    await kits.a.invalidate({ tags: 't' });
    const second = all.map(({ name, key }) => `${name === 'a' ? 3 : 1} ${name} ${key}`);
    expect(await ask('3')).toEqual(second);
  });

  it('kit.cache of two namespaces stores separate responses for the same URL', async () => {
    const kit = kitForTest({ url: url() });
    const app = express();
    const stored = eventsOf(kit, 'cache:stored');
    for (const name of ['a', 'b']) {
      app.get(
        '/page',
        (req, _res, next) => next(req.headers['x-tenant'] === name ? undefined : 'route'),
        kit.namespace(name).cache({ ttl: '1h' }),
        (_req, res) => void res.send(name),
      );
    }
    const address = await serve(app);
    const ask = async (tenant: string) =>
      (await send(`${address}/page`, { headers: { 'X-Tenant': tenant } })).text;
    for (let round = 0; round < 3; round++) expect([await ask('a'), await ask('b')]).toEqual(['a', 'b']);
    await until('both are stored', () => stored.length === 2);
    expect([await ask('a'), await ask('b')]).toEqual(['a', 'b']);
  });
});

it('the namespaces of a kit share one channel, and receive purges by another process', async () => {
  const kit = kitForTest({ url: redisUrl() });
  const other = kitForTest({ url: redisUrl(), prefix: kit.prefix });
  for (let index = 0; index < 20; index++) {
    await kit.namespace(`t${index}`).remember('k', { ttl: '1h', local: { maxAge: '1h' } }, () => 1);
  }
  await withPlainClient(redisUrl(), async (client) => {
    await until('it listens', async () => (await client.pubSubChannels(`${kit.prefix}:*`)).length > 0);
    expect(await client.pubSubChannels(`${kit.prefix}:*`)).toHaveLength(1);
  });
  const value = () => kit.namespace('t7').remember('k', { ttl: '1h', local: { maxAge: '1h' } }, () => 2);
  await value();
  await other.namespace('t7').invalidate({ key: 'k' });
  await until('the purge is heard', async () => (await value()) === 2);
  expect(await kit.namespace('t8').remember('k', { ttl: '1h', local: { maxAge: '1h' } }, () => 2)).toBe(1);
});
