import { setImmediate } from 'node:timers/promises';
import express from 'express';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Emitter } from '../../../src/base/emitter.ts';
import type { KitEvents } from '../../../src/base/events.ts';
import { Keys } from '../../../src/base/keys.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import { Reporter } from '../../../src/base/reporter.ts';
import { CacheMemory, Caches } from '../../../src/cache/caches.ts';
import { RememberedValues } from '../../../src/cache/values/remember.ts';
import type { RememberOptions } from '../../../src/cache/values/remember-options.ts';
import { RequestDeadlines } from '../../../src/engine/deadline.ts';
import { memoryEngine } from '../../../src/engine/memory-engine.ts';
import { MemoryKeyspace } from '../../../src/engine/memory-keyspace.ts';
import type { ChannelListener, PubSub } from '../../../src/engine/pub-sub.ts';
import { TestClock } from '../../support/both-engines.ts';
import { describeWithServers } from '../../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest, testPrefix } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { startRedis } from '../../support/servers.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { agingKit } from '../aging.ts';
import { loadCacheScripts } from '../scripts.ts';

/** A subscriber that a test connects and disconnects; messages are lost while it is disconnected. */
class Line implements PubSub {
  readonly #memory: MemoryKeyspace;
  readonly #listeners = new Map<string, ChannelListener>();
  #isUp: boolean;

  constructor(memory: MemoryKeyspace, isUp: boolean) {
    this.#memory = memory;
    this.#isUp = isUp;
  }

  subscribe(channel: string, listener: ChannelListener): () => void {
    this.#listeners.set(channel, listener);
    const heard = (message: string) => {
      if (this.#isUp) listener.onMessage(message, channel);
    };
    const stop = this.#memory.subscribe(channel, { onMessage: heard, onStatus: () => undefined });
    if (this.#isUp) listener.onStatus(true);
    return stop;
  }

  set(isUp: boolean): void {
    this.#isUp = isUp;
    for (const listener of this.#listeners.values()) listener.onStatus(isUp);
  }
}

/** Two processes that share a store; the test controls the subscriber of the first. */
function twoProcesses(isUp: boolean) {
  const clock = new TestClock();
  const memory = new MemoryKeyspace(clock);
  const reporter = new Reporter(new Emitter<KitEvents>(silentLogger), silentLogger);
  const engine = memoryEngine(memory, clock);
  const keys = new Keys('t-line');
  const line = new Line(memory, isUp);
  const common = { engine, keys, reporter, now: () => clock.now() };
  const { values, versions } = new Caches(common, new CacheMemory(line, keys.cacheChannel()));
  const remembered = new RememberedValues({
    ...{ keys, reporter, values, policies: new Map(), closing: new AbortController().signal },
    deadlines: new RequestDeadlines(60_000),
  });
  const other = new Caches(common, new CacheMemory(memory, keys.cacheChannel()));
  const state = { value: 1 };
  return {
    line,
    versions,
    memory,
    state,
    remember: (options: RememberOptions = {}, key = 'k') =>
      remembered.remember(
        key,
        { ttl: '1h', tags: ['t'], local: { maxAge: '1h' }, ...options },
        () => state.value,
      ),
    purge: () => other.versions.purge([keys.cacheName('tag', 't')], false),
  };
}

describe('purges that a process has missed', () => {
  const WAYS: Readonly<Record<string, RememberOptions>> = {
    'local copies': {},
    'no local copies': { local: false },
  };

  it.for(Object.entries(WAYS))(
    'a process with %s uses no value that was purged while the subscriber was disconnected',
    async ([, options]) => {
      const { line, state, remember, purge } = twoProcesses(true);
      expect(await remember(options)).toBe(1);
      line.set(false);
      expect(await remember(options), 'the store still has it').toBe(1);
      state.value = 2;
      await purge();
      line.set(true);
      expect(await remember(options)).toBe(2);
    },
  );

  it.for(Object.entries(WAYS))(
    'a process with %s uses no purged value that it read before its subscriber connected',
    async ([, options]) => {
      const { line, state, remember, purge } = twoProcesses(false);
      expect(await remember(options)).toBe(1);
      expect(await remember(options)).toBe(1);
      state.value = 2;
      await purge();
      line.set(true);
      expect(await remember(options)).toBe(2);
    },
  );

  it('a process keeps no local copy of a value that it requested before its subscriber reconnected', async () => {
    const { line, state, remember, purge, versions } = twoProcesses(true);
    await remember();
    line.set(false);
    const asked = versions.read(['all'], 1_000);
    line.set(true);
    expect((await asked).versions.map(({ isTracked }) => isTracked)).toEqual([false]);
    line.set(false);
    // It reads the value and its versions before the purge, and gets the replies after the subscriber has reconnected.
    const value = remember();
    await setImmediate();
    line.set(true);
    expect(await value).toBe(1);
    state.value = 2;
    await purge();
    await setImmediate();
    expect(await remember()).toBe(2);
  });

  it('a process whose subscriber has reconnected keeps local copies again, and receives purges of them', async () => {
    const { line, state, remember, purge, memory } = twoProcesses(true);
    await remember();
    line.set(false);
    await remember();
    line.set(true);
    await remember();
    const { get } = memory;
    memory.get = () => expect.fail('the store was asked for what is held');
    expect(await remember()).toBe(1);
    memory.get = get;
    state.value = 2;
    await purge();
    // A message takes one turn of the event loop.
    await setImmediate();
    expect(await remember()).toBe(2);
  });
});

describeOnBothEngines('a stale value within `staleIfError`', (url) => {
  it('a stale value that was purged before its loader failed is not used', async () => {
    const { kit, pass, local } = agingKit(url());
    const options = {
      ttl: '1s',
      staleIfError: '1h',
      tags: ['t'],
      ...(local === false && { local }),
    } as const;
    const stored = eventsOf(kit, 'cache:stored');
    await kit.remember('k', options, () => 'old');
    await until('it is stored', () => stored.length === 1);
    await pass(2_000);
    const failing = kit.remember('k', options, async () => {
      await kit.invalidate({ tags: 't' });
      throw new Error('the source is down');
    });
    await expect(failing).rejects.toThrow('the source is down');
  });
});

describeWithServers('purges that a process has missed, on Redis', () => {
  it('a process uses no entry that was purged while its subscriber was disconnected', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    await loadCacheScripts(server.url);
    const prefix = testPrefix();
    const options = { url: server.url, prefix } as const;
    const kit = kitForTest(options);
    await kit.ready();
    let version = 1;
    const settings = { ttl: '1h', local: { maxAge: '1h' }, tags: ['t'] } as const;
    const app = express();
    app.get('/held', kit.cache(settings), (_req, res) => void res.send(`version ${version}`));
    app.get(
      '/not-held',
      kit.cache({ ...settings, local: false }),
      (_req, res) => void res.send(`version ${version}`),
    );
    app.get('/value', async (_req, res) => {
      res.send(await kit.remember('k', settings, () => `version ${version}`));
    });
    const address = await serve(app);
    const ask = () =>
      Promise.all(['held', 'not-held', 'value'].map(async (path) => (await send(`${address}/${path}`)).text));
    await ask();
    await withPlainClient(server.url, async (client) => {
      const listeners = async () => {
        const [channel = ''] = await client.pubSubChannels(`${prefix}:cache:*`);
        return channel === '' ? 0 : (await client.pubSubNumSub([channel]))[channel];
      };
      await until('it listens', async () => (await listeners()) === 1);
      await client.sendCommand(['ACL', 'SETUSER', 'default', '-subscribe']);
      await client.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
      await until('it does not', async () => (await listeners()) === 0);
      for (let round = 0; round < 5; round++) expect(await ask()).toEqual(Array(3).fill('version 1'));
      version = 2;
      await kitForTest(options).invalidate({ tags: 't' });
      await client.sendCommand(['ACL', 'SETUSER', 'default', '+subscribe']);
      await until('both listen', async () => (await listeners()) === 2, 40_000);
    });
    for (let round = 0; round < 50; round++) expect(await ask()).toEqual(Array(3).fill('version 2'));
  }, 60_000);
});
