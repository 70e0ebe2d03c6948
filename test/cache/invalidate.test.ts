import express, { type RequestHandler } from 'express';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions, InvalidationTarget } from '../../src/index.ts';
import { Gate } from '../http/exchange.ts';
import { redisUrl } from '../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { type Sent, send, serve } from '../support/web.ts';
import { loadCacheScripts } from './scripts.ts';

describeOnBothEngines('an invalidated entry', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function start(options: Partial<CacheOptions> = {}, handler?: RequestHandler) {
    const kit = kitForTest({ url: url() });
    let runs = 0;
    const app = express();
    app.get('/{*path}', kit.cache({ ttl: '1m', ...options }), (req, res, next) => {
      runs++;
      return handler === undefined ? void res.send(`${req.url} ${runs}`) : handler(req, res, next);
    });
    const address = await serve(app);
    const ask = async (path: string, sent?: Sent) => (await send(`${address}${path}`, sent)).text;
    return { kit, ask, runs: () => runs };
  }

  it.each([true, { maxAge: '1m' } as const, false as const])(
    'an invalidation by tag invalidates the responses with the tag, and no others (local copies: %j)',
    async (local) => {
      const { kit, ask, runs } = await start(
        { tags: (req) => [`page-${req.path.slice(1, 2)}`], ...(local === true ? {} : { local }) },
        (req, res) => {
          if (req.url === '/a2') req.cache.tag('second', 'third');
          res.send(`${req.url} ${runs()}`);
        },
      );
      const paths = ['/a1', '/a2', '/b1'];
      for (const path of paths) await ask(path);
      await kit.invalidate({ tags: 'page-a' });
      expect(await ask('/b1')).toBe('/b1 3');
      expect(await ask('/a1')).toBe('/a1 4');
      expect(await ask('/a2')).toBe('/a2 5');
      for (const path of paths) await ask(path);
      expect(runs()).toBe(5);
      await kit.invalidate({ tags: ['third', 'nobody'] });
      expect([await ask('/a1'), await ask('/a2')]).toEqual(['/a1 4', '/a2 6']);
    },
  );

  it('an invalidation by URL invalidates the responses of every host and every variant, but of no other URL', async () => {
    const { kit, ask, runs } = await start({}, (req, res) => {
      res.vary('Accept').send(`${req.headers.host} ${req.headers.accept} ${runs()}`);
    });
    const every = async () => {
      for (const Host of ['one.example', 'two.example']) {
        for (const Accept of ['a', 'b']) await ask('/p?x=1', { headers: { Host, Accept } });
      }
      await ask('/p?x=2');
    };
    await every();
    await every();
    expect(runs()).toBe(5);
    await kit.invalidate({ url: '/p?x=1' });
    await every();
    expect(runs()).toBe(9);
    await kit.invalidate({ all: true });
    await every();
    expect(runs()).toBe(14);
  });

  it.each<[CacheOptions['key']]>([
    [{ query: ['page'] }],
    [{ query: { ignore: ['utm'] } }],
    [{ query: false }],
    [(req) => `${req.path} ${req.query.page}`],
  ])(
    'with the key %j, an invalidation by any URL that a response answers invalidates the response',
    async (key) => {
      const { kit, ask } = await start({ key });
      await ask('/other?page=2&utm=1');
      for (const url of ['/q?page=2&utm=1', '/q?page=2', '/q?utm=2&page=2']) {
        const before = await ask('/q?page=2&utm=1');
        await kit.invalidate({ url });
        expect(await ask('/q?page=2&utm=1'), url).not.toBe(before);
      }
      expect(await ask('/other?page=2&utm=1')).toBe('/other?page=2&utm=1 1');
    },
  );

  it('an invalidation by key invalidates the response for which the `key` function returned the key', async () => {
    const { kit, ask, runs } = await start({ key: (req) => `product ${req.query.id}` });
    await ask('/a?id=1');
    await ask('/b?id=1');
    await ask('/b?id=2');
    expect(runs()).toBe(2);
    await kit.invalidate({ key: 'product 1' });
    await ask('/b?id=1');
    await ask('/b?id=2');
    expect(runs()).toBe(3);
  });

  it('a response is sent once more after a soft invalidation, while it is refreshed', async () => {
    const { kit, ask, runs } = await start();
    const stored = eventsOf(kit, 'cache:stored');
    const stale = eventsOf(kit, 'cache:stale');
    expect(await ask('/')).toBe('/ 1');
    await until('it is stored', () => stored.length === 1);
    await kit.invalidate({ url: '/', soft: true });
    expect(await ask('/')).toBe('/ 1');
    await until('it is refreshed', () => stored.length === 2);
    expect(await ask('/')).toBe('/ 2');
    expect([stale.length, runs()]).toEqual([1, 2]);
  });

  it('a response with must-revalidate is not sent stale after a soft invalidation', async () => {
    const { kit, ask, runs } = await start({}, (_req, res) => {
      res.set('Cache-Control', 'must-revalidate').send(`body ${runs()}`);
    });
    await ask('/');
    await kit.invalidate({ url: '/', soft: true });
    expect(await ask('/')).toBe('body 2');
  });

  it('kit.invalidate emits `cache:purged` with its target', async () => {
    const kit = kitForTest({ url: url() });
    const purged = eventsOf(kit, 'cache:purged');
    await kit.invalidate({ tags: ['a', 'b'] });
    await kit.invalidate({ url: '/x', soft: true });
    await kit.invalidate({ key: 'k' });
    await kit.invalidate({ all: true });
    expect(purged).toEqual([
      { what: { tags: ['a', 'b'] }, soft: false },
      { what: { url: '/x' }, soft: true },
      { what: { key: 'k' }, soft: false },
      { what: { all: true }, soft: false },
    ]);
  });

  it('an invalidation in one namespace leaves the entries of another namespace valid', async () => {
    const kit = kitForTest({ url: url() });
    const load = (of: string) => () => `${of} ${Math.random()}`;
    const tenants = [kit.namespace('one'), kit.namespace('two')];
    const remember = () => Promise.all(tenants.map((each) => each.remember('k', '1m', load(each.prefix))));
    const before = await remember();
    await tenants[0]?.invalidate({ all: true });
    const after = await remember();
    expect([after[0] === before[0], after[1] === before[1]]).toEqual([false, true]);
  });
});

onEveryStore('an invalidation', (makeKit) => {
  it('an invalidation also invalidates a value whose loader is running', async () => {
    const kit = makeKit();
    let finish: (value: string) => void = () => undefined;
    const slow = new Promise<string>((resolve) => {
      finish = resolve;
    });
    let loads = 0;
    const remember = () =>
      kit.remember('price', { ttl: '1m', tags: ['prices'] }, () => (++loads === 1 ? slow : `new ${loads}`));
    const first = remember();
    await until('it is being made', () => loads === 1);
    await kit.invalidate({ tags: 'prices' });
    finish('old');
    expect(await first).toBe('old');
    expect(await remember()).toBe('new 2');
    expect(await remember()).toBe('new 2');
    expect(loads).toBe(2);
  });

  it.each<[string, () => unknown]>([
    ['undefined', () => undefined],
    ['a value above `maxBytes`', () => 'old'.repeat(10)],
    [
      'an error',
      () => {
        throw new Error('old');
      },
    ],
  ])(
    'a caller after an invalidation does not share the outcome of a loader from before it: %s',
    async (_, old) => {
      for (const target of [{ key: 'user' }, { tags: 'users' }]) {
        const kit = makeKit();
        const gate = new Gate();
        let loads = 0;
        const remember = () =>
          kit.remember('user', { ttl: '1m', tags: ['users'], maxBytes: 10 }, async () => {
            if (++loads > 1) return 'new';
            await gate.promise;
            return old();
          });
        const first = remember().catch(String);
        await until('the old value is being loaded', () => loads === 1);
        await kit.invalidate(target);
        const after = remember();
        gate.open();
        await first;
        expect(await after).toBe('new');
      }
    },
  );

  it.each<[string, () => unknown]>([
    ['undefined', () => undefined],
    ['a value above `maxBytes`', () => 'large'.repeat(10)],
  ])('callers share one loader if only other values are invalidated meanwhile: %s', async (_, value) => {
    const kit = makeKit();
    const gate = new Gate();
    let loads = 0;
    const remember = () =>
      kit.remember('user', { ttl: '1m', maxBytes: 10 }, async () => {
        loads++;
        await gate.promise;
        return value();
      });
    const first = remember();
    await until('the value is being loaded', () => loads === 1);
    await kit.invalidate({ tags: 'others' });
    const after = remember();
    gate.open();
    expect(await after).toEqual(await first);
    expect(loads).toBe(1);
  });
});

describe('an entry on Redis', () => {
  it.each([
    ['the version of its tag', 'tag'],
    ['the version of its key', 'key'],
    ['all versions and the sequence', ''],
  ])('an entry is not used after Redis has lost %s together with a purge', async (_, lost) => {
    const kit = kitForTest({ url: redisUrl() });
    let loads = 0;
    const remember = () => kit.remember('k', { ttl: '1m', tags: ['t'], local: false }, () => ++loads);
    await remember();
    await until('it is stored', async () => (await remember()) === 1);
    await withPlainClient(redisUrl(), async (client) => {
      // Like a failover that loses the purge together with earlier writes.
      await kit.invalidate({ tags: 'unrelated' });
      const keys = await client.keys(`${kit.prefix}:cache:{${kit.prefix}.v}:${lost}*`);
      expect(keys.length).toBeGreaterThan(0);
      await client.del(keys);
    });
    const other = kitForTest({ url: redisUrl(), prefix: kit.prefix });
    expect(await other.remember('k', { ttl: '1m', tags: ['t'], local: false }, () => ++loads)).toBe(2);
  });
});

describe('kit.invalidate', () => {
  it.each<[unknown, string]>([
    [{}, 'nothing is given'],
    [{ tags: 'a', url: '/a' }, 'tags and url are given'],
    [{ tags: [''] }, 'the tags are an array of 1'],
    [{ tags: [1] }, 'the tags are an array of 1'],
    [{ url: 'https://shop.example/a' }, 'invalidated on every host'],
    [{ url: '' }, '`url`'],
    [{ key: '' }, '`key`'],
    [{ all: false }, '`all` is false'],
    [{ tag: 'a' }, 'did you mean `tags`?'],
    [{ all: true, soft: 1 }, '`soft` is 1'],
    [undefined, 'options must be an object'],
  ])('kit.invalidate rejects an invalid target: %j', async (target, part) => {
    const kit = kitForTest({ url: 'memory:' });
    await expect(kit.invalidate(target as InvalidationTarget)).rejects.toThrow(part);
  });
});
