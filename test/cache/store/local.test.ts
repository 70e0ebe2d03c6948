import express from 'express';
import { expect, it, onTestFinished } from 'vitest';
import { LocalCopies } from '../../../src/cache/store/local-state.ts';
import type { CacheOptions } from '../../../src/index.ts';
import { TestClock } from '../../support/both-engines.ts';
import { describeWithServers } from '../../support/context.ts';
import { eventsOf, kitForTest } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { startRedis } from '../../support/servers.ts';
import { onEveryStore } from '../../support/stores.ts';
import { passTime, stopTime } from '../../support/time.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { countCommands } from '../../support/wire.ts';
import { loadCacheScripts } from '../scripts.ts';

describeWithServers('the local copies of a process', () => {
  async function start(local: CacheOptions['local']) {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    await loadCacheScripts(server.url);
    const kit = kitForTest({ url: server.url });
    await kit.ready();
    let runs = 0;
    const app = express();
    app.get(
      '/',
      kit.cache({ ttl: '1h', local, tags: ['t'] }),
      (_req, res) => void res.send(`body ${++runs}`),
    );
    const address = await serve(app);
    const costOfHit = async () => {
      const commands = await countCommands(server.url, () => send(address));
      return commands.filter(([name]) => name === 'EVALSHA').length;
    };
    await until('it is held', async () => (await costOfHit()) === 0);
    return { server, kit, address, costOfHit, runs: () => runs };
  }

  it('local copies are dropped while the subscriber is disconnected, and kept again after it has reconnected', async () => {
    const { server, address, costOfHit, runs } = await start({ maxAge: '1h' });
    await withPlainClient(server.url, async (client) => {
      await client.sendCommand(['ACL', 'SETUSER', 'default', '-subscribe']);
      await client.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
      await until('it costs a hit again', async () => (await costOfHit()) > 0);
      expect(await costOfHit(), 'and nothing of it is known here').toBe(2);
      await client.sendCommand(['ACL', 'SETUSER', 'default', '+subscribe']);
      await until('it is held again', async () => (await costOfHit()) === 0, 120_000);
    });
    expect((await send(address)).text).toBe('body 1');
    expect(runs()).toBe(1);
  }, 180_000);

  it('entries are read from Redis again when their local copies are older than `maxAge`', async () => {
    const { costOfHit } = await start({ maxAge: '1m' });
    stopTime();
    await passTime(60_000);
    await until('it costs a hit again', async () => (await costOfHit()) > 0);
    await until('and then none', async () => (await costOfHit()) === 0);
  });

  it('an invalidation that is not published takes effect on local copies within `maxAge`', async () => {
    const { server, kit, address } = await start({ maxAge: '1m' });
    // A process whose Redis user must not publish can still purge.
    await withPlainClient(server.url, (client) =>
      client.sendCommand(['ACL', 'SETUSER', 'mute', 'on', 'nopass', '~*', '+@all', '-publish', '&*']),
    );
    const { port } = new URL(server.url);
    const mute = kitForTest({ url: `redis://mute:any@127.0.0.1:${port}`, prefix: kit.prefix });
    await mute.ready();
    stopTime();
    await mute.invalidate({ tags: 't' });
    await passTime(60_000);
    await until('it is refreshed', async () => (await send(address)).text === 'body 2');
  });

  it('local copies are not dropped by foreign messages on the cache channel', async () => {
    const { server, kit, address, costOfHit } = await start({ maxAge: '1h' });
    await withPlainClient(server.url, async (client) => {
      const [channel = ''] = await client.pubSubChannels(`${kit.prefix}:*`);
      for (const message of [
        '',
        'x',
        '{}',
        '[]',
        '["purged"]',
        '["purged","x",0,"",["all"]]',
        '["purged",9007199254740991,0,["all"]]',
        '["filled",7]',
        '[1',
      ]) {
        await client.publish(channel, message);
      }
      await client.publish(channel, '["purged",1,0,"",["all"]]');
    });
    expect(await costOfHit()).toBe(0);
    expect((await send(address)).text).toBe('body 1');
  });
});

onEveryStore('a stored page and a cached value', (makeKit) => {
  it('an entry is filled once, then used, and filled again after an invalidation', async () => {
    const kit = makeKit();
    await kit.ready();
    const stored = eventsOf(kit, 'cache:stored');
    let runs = 0;
    const app = express();
    app.get('/', kit.cache({ ttl: '1h', tags: ['t'], vary: { maxVariants: 2 } }), (req, res) => {
      res.vary('X').send(`${req.headers.x} ${++runs}`);
    });
    const address = await serve(app);
    const ask = async (x: string) => (await send(address, { headers: { x } })).text;
    const remember = () => kit.remember('k', { ttl: '1h', tags: ['t'] }, () => ++runs);
    expect([await ask('a'), await ask('b'), await ask('a'), await ask('b'), await remember()]).toEqual([
      ...['a 1', 'b 2', 'a 1', 'b 2'],
      3,
    ]);
    await until('all is stored', () => stored.length === 3);
    await kit.invalidate({ tags: 't' });
    expect([await ask('a'), await ask('b'), await remember(), await remember()]).toEqual([
      'a 4',
      'b 5',
      6,
      6,
    ]);
    await kit.invalidate({ url: '/' });
    expect([await ask('a'), await ask('c'), await remember()]).toEqual(['a 7', 'c 8', 6]);
  });
});

it('local copies take at most `maxBytes` in total', () => {
  const copies = new LocalCopies<Buffer>(1_000_000, { detach: (content) => content, addedBytes: () => 0 });
  const clock = new TestClock();
  const windows = { staleWhileRevalidateMs: 0, staleIfErrorMs: 0, validatableMs: 0 };
  const lifetime = { freshMs: 1, ...windows, ageMs: 0, isStrict: false };
  const times = { readAt: clock.now(), storedAt: clock.now(), freshUntil: clock.now() };
  const entryOf = (bytes: number) => {
    return { content: Buffer.alloc(0), names: [], sequence: 0, versions: [], lifetime, bytes, ...times };
  };
  for (let index = 0; index < 2_000; index++) copies.put(`k${index}`, entryOf(10_000));
  const held = Array.from({ length: 2_000 }, (_, index) => copies.get(`k${index}`)).filter(Boolean);
  expect(held.length).toBeGreaterThan(70);
  expect(held.length).toBeLessThan(100);
  expect(copies.get('k1999'), 'the last one').toBeDefined();
  copies.put('large', entryOf(2_000_000));
  expect(copies.get('large')).toBeUndefined();
});
