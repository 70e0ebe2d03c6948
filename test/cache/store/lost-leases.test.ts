import { setImmediate } from 'node:timers/promises';
import express from 'express';
import { expect, it, onTestFinished } from 'vitest';
import { Keys } from '../../../src/base/keys.ts';
import type { RedisKit } from '../../../src/index.ts';
import { describeWithServers } from '../../support/context.ts';
import { kitForTest, testPrefix } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { startProxy } from '../../support/proxy.ts';
import { startRedis } from '../../support/servers.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

/** Longer than any test lasts, so that a lost lease makes the test time out. */
const singleFlight = { lease: '1h', wait: '1h' } as const;

/** Requests a cached response or value of a kit, which `make` creates. */
type Ask = (kit: RedisKit, make: () => Promise<string>) => Promise<string>;

const askRemember: Ask = (kit, make) =>
  kit.remember('k', { ttl: '1h', singleFlight, local: false }, make).catch((error: Error) => error.message);

const askCache: Ask = async (kit, make) => {
  const app = express().set('env', 'test');
  app.get(
    '/k',
    kit.cache({ ttl: '1h', singleFlight, local: false, key: { host: false } }),
    async (_req, res) => {
      res.send(await make());
    },
  );
  return (await send(`${await serve(app)}/k`)).text;
};

describeWithServers('leases that Redis grants to a cache', () => {
  async function start() {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    await loadCacheScripts(server.url);
    const proxy = await startProxy(server);
    const prefix = testPrefix();
    const kit = kitForTest({ url: proxy.url, prefix });
    const healthy = kitForTest({ url: server.url, prefix });
    await kit.ready();
    await healthy.ready();
    // Both kits have subscribed by now, so the next command is one of the test's.
    for (const each of [kit, healthy]) await each.remember('warm-up', '1h', () => 0);
    await until('both listen', () =>
      withPlainClient(server.url, async (client) => {
        const [channel = ''] = await client.pubSubChannels(`${prefix}:cache:*`);
        return channel !== '' && (await client.pubSubNumSub([channel]))[channel] === 2;
      }),
    );
    return { server, proxy, prefix, kit, healthy };
  }

  const WAYS: Readonly<Record<string, Ask>> = { 'kit.remember': askRemember, 'kit.cache': askCache };

  it.for(Object.entries(WAYS))(
    'a lease is ended when the reply that granted the lease to %s was lost',
    async ([, ask]) => {
      const { proxy, kit, healthy } = await start();
      proxy.loseNextReply();
      expect(await ask(kit, async () => 'made under the lease')).toBe('made under the lease');
      expect(proxy.cuts).toBe(1);
      // The response may have been stored in the meantime.
      const answer = await ask(healthy, async () => 'made by another process');
      expect(['made under the lease', 'made by another process']).toContain(answer);
    },
  );

  it.for(Object.entries(WAYS))(
    'a lease is ended when the result of %s could not be stored',
    async ([, ask]) => {
      const { proxy, kit, healthy } = await start();
      const make = async () => {
        proxy.sever();
        return 'not stored';
      };
      expect(await ask(kit, make)).toBe('not stored');
      proxy.mend();
      expect(await ask(healthy, async () => 'made by another process')).toBe('made by another process');
    },
  );

  it('a lease is ended when a loader fails while Redis is down', async () => {
    const { proxy, kit, healthy } = await start();
    const make = async () => {
      proxy.sever();
      throw new Error('nothing was made');
    };
    expect(await askRemember(kit, make)).toBe('nothing was made');
    proxy.mend();
    expect(await askRemember(healthy, async () => 'made')).toBe('made');
  });

  it.for(Object.entries(WAYS))(
    'a lease is ended when the versions of the result of %s cannot be read',
    async ([, ask]) => {
      const { server, prefix, healthy } = await start();
      const { entry, fill } = new Keys(prefix).remembered('k');
      const page = new Keys(prefix).cache('/k').entry;
      await withPlainClient(server.url, (client) =>
        client.sendCommand(
          ['ACL', 'SETUSER', 'limited', 'on', 'nopass', '+@all', '&*'].concat(
            [entry, fill, page, `${page}:fill`].map((key) => `~${key}`),
          ),
        ),
      );
      const limited = kitForTest({ url: `redis://limited:any@127.0.0.1:${server.port}`, prefix });
      await limited.ready();
      expect(await ask(limited, async () => 'not stored')).toBe('not stored');
      await until('the lease was given back', () =>
        withPlainClient(server.url, async (client) => (await client.exists([fill, `${page}:fill`])) === 0),
      );
      expect(await ask(healthy, async () => 'made by another process')).toBe('made by another process');
    },
  );

  it('a lease whose grant was lost is ended when its value has been loaded', async () => {
    const { proxy, kit, healthy } = await start();
    proxy.loseNextReply();
    let letGo: (value: string) => void = () => undefined;
    const made = askRemember(
      kit,
      () =>
        new Promise((resolve) => {
          letGo = resolve;
        }),
    );
    await until('the reply is lost', () => proxy.cuts === 1);
    const waiting = askRemember(healthy, async () => 'made twice');
    await kit.ready();
    await until(
      'Redis answers again',
      async () => (await kit.client?.ping().catch(() => undefined)) === 'PONG',
    );
    await setImmediate();
    letGo('made once');
    expect(await made).toBe('made once');
    expect(['made once', 'made twice']).toContain(await waiting);
  });
});
