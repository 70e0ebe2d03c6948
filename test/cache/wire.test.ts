import express, { type RequestHandler } from 'express';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import type { CacheOptions, RedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';
import { countCommands } from '../support/wire.ts';
import { loadCacheScripts } from './scripts.ts';

let server: RedisServer;
let processes = 0;

/** The names of the commands that reach the server while the work is done. */
async function commandsOf(work: () => unknown): Promise<readonly string[]> {
  return (await countCommands(server.url, work)).map(([name]) => name);
}

/** Resolves when this many processes subscribe to purges. */
async function allListen(count: number): Promise<void> {
  await withPlainClient(server.url, (client) =>
    until('all listen', async () => {
      const [channel = ''] = await client.pubSubChannels('t-wire:*');
      return channel !== '' && (await client.pubSubNumSub([channel]))[channel] === count;
    }),
  );
}

/** A kit with an app, like those of another process. All share one prefix, and so the stored responses. */
async function startProcess(options: Partial<CacheOptions> = {}, handler?: RequestHandler) {
  const kit: RedisKit = kitForTest({ url: server.url, prefix: 't-wire' });
  const [stored, hits] = [eventsOf(kit, 'cache:stored'), eventsOf(kit, 'cache:hit')];
  const app = express();
  const answer: RequestHandler = (req, res) => {
    req.cache.tag('one', 'two');
    res.send(`body of ${req.url}`);
  };
  app.use(kit.cache({ ttl: '1m', key: { host: false }, ...options }), handler ?? answer);
  const address = await serve(app);
  await kit.ready();
  await allListen(++processes);
  return {
    kit,
    stored,
    hits,
    ask: (path: string, headers = {}) => send(`${address}${path}`, { headers }),
    isStored: (count: number) => until('it is stored', () => stored.length === count),
  };
}

describeWithServers('the commands of a stored response', () => {
  beforeEach(async () => {
    server = await startRedis();
    processes = 0;
    onTestFinished(() => server.stop());
    await loadCacheScripts(server.url);
  });

  it('a hit costs no command with a local copy, else one, or two if the process does not know the versions of its tags', async () => {
    const maker = await startProcess();
    await maker.ask('/a');
    await maker.ask('/b');
    await maker.isStored(2);
    expect(await commandsOf(() => maker.ask('/a')), 'held').toEqual([]);
    const reader = await startProcess({ local: { maxBytes: 1 } });
    expect(await commandsOf(() => reader.ask('/a')), 'not known').toEqual(['EVALSHA', 'EVALSHA']);
    expect(await commandsOf(() => reader.ask('/a')), 'known').toEqual(['EVALSHA']);
    expect(reader.hits).toHaveLength(2);
  });

  it('a hit costs one more command if the process does not know the Vary of the response', async () => {
    const varied: RequestHandler = (_req, res) => void res.vary('Accept').send('body');
    const maker = await startProcess({}, varied);
    for (const path of ['/a', '/b']) await maker.ask(path, { Accept: 'text/a' });
    await maker.isStored(2);
    expect(await commandsOf(() => maker.ask('/a', { Accept: 'text/a' })), 'held').toEqual([]);
    const reader = await startProcess({ local: false }, varied);
    expect(await commandsOf(() => reader.ask('/a', { Accept: 'text/a' }))).toHaveLength(3);
    expect(await commandsOf(() => reader.ask('/a', { Accept: 'text/a' }))).toHaveLength(1);
    expect(await commandsOf(() => reader.ask('/b', { Accept: 'text/a' })), 'as the last one').toHaveLength(2);
  });

  it('a miss costs two to four commands, depending on the versions that the process knows', async () => {
    const maker = await startProcess();
    const make = (path: string, count: number) => async () => {
      await maker.ask(path);
      await maker.isStored(count);
    };
    expect(await commandsOf(make('/a', 1)), 'read, versions, write, versions of its tags').toHaveLength(4);
    await maker.kit.invalidate({ url: '/a' });
    // The versions of its names are known to the process, and kept for long enough.
    expect(await commandsOf(make('/a', 2))).toHaveLength(2);
    await maker.kit.invalidate({ tags: 'one' });
    expect(await commandsOf(make('/a', 3)), 'fresh to who does not know its tags').toHaveLength(3);
  });

  it.each(['must-revalidate', 'no-cache'])(
    'the validation of a response with %s costs no more commands than a miss',
    async (control) => {
      const validated: (string | undefined)[] = [];
      const maker = await startProcess({}, (req, res) => {
        validated.push(req.headers['if-none-match']);
        res.set('Cache-Control', control).send('page');
      });
      const make = (count: number) => async () => {
        await maker.ask('/a');
        await maker.isStored(count);
      };
      expect(await commandsOf(make(1)), 'read, versions, write').toHaveLength(3);
      await maker.kit.invalidate({ url: '/a', soft: true });
      expect(await commandsOf(make(2)), 'read, write').toHaveLength(2);
      await maker.kit.invalidate({ url: '/a' });
      expect(await commandsOf(make(3)), 'read, write').toHaveLength(2);
      expect(validated).toEqual([undefined, expect.any(String), undefined]);
    },
  );

  it('a request that bypasses the cache costs no command', async () => {
    const maker = await startProcess({ skip: (req) => req.path === '/skipped' });
    await maker.ask('/a');
    await maker.isStored(1);
    expect(await commandsOf(() => maker.ask('/skipped'))).toEqual([]);
  });

  it('requests for a private response cost no command once the process has seen the response', async () => {
    const maker = await startProcess({}, (_req, res) => void res.set('Cache-Control', 'private').send('x'));
    const skipped = eventsOf(maker.kit, 'cache:skipped');
    await maker.ask('/a');
    await until('it is known', () => skipped.length === 1);
    expect(await commandsOf(() => maker.ask('/a'))).toEqual([]);
    expect(await commandsOf(() => maker.ask('/a'))).toEqual([]);
    expect(skipped).toHaveLength(3);
  });

  it('a cached value costs as many commands as a stored response', async () => {
    const maker = await startProcess();
    const reader = await startProcess();
    const load = () => 'value';
    await maker.kit.remember('k', '1m', load);
    await maker.isStored(1);
    expect(await commandsOf(() => maker.kit.remember('k', '1m', load))).toEqual([]);
    const remember = () => reader.kit.remember('k', { ttl: '1m', local: false }, load);
    expect(await commandsOf(remember)).toHaveLength(2);
    expect(await commandsOf(remember)).toHaveLength(1);
  });

  it('a purge costs one command for any number of tags', async () => {
    const { kit } = await startProcess();
    const tags = Array.from({ length: 100 }, (_, index) => `tag ${index}`);
    expect(await commandsOf(() => kit.invalidate({ tags }))).toEqual(['EVALSHA']);
  });

  it('an invalidation by URL costs one command, even for responses that several URLs share', async () => {
    const { kit } = await startProcess();
    expect(await commandsOf(() => kit.invalidate({ url: '/a?b=1' }))).toEqual(['EVALSHA']);
  });

  it('the variants of a response use at most `maxVariants` + 1 Redis keys, whatever headers clients send', async () => {
    const maker = await startProcess(
      { vary: { maxVariants: 3 } },
      (_req, res) => void res.vary('X').send('body'),
    );
    for (let index = 1; index <= 20; index++) await maker.ask('/a', { X: `value ${index}` });
    await maker.isStored(20);
    await withPlainClient(server.url, async (client) => {
      const keys = async () =>
        (await client.keys('t-wire:cache:{/a*')).filter((key) => !key.endsWith(':fill'));
      await until('the others are gone', async () => (await keys()).length === 4);
      for (const key of await client.keys('*')) expect(await client.pTTL(key), key).toBeGreaterThan(0);
    });
    expect((await maker.ask('/a', { X: 'value 20' })).headers.age).toBeDefined();
  });
});
