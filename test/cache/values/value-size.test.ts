import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { RedisKit, RememberOptions } from '../../../src/index.ts';
import { Gate } from '../../http/exchange.ts';
import { TestClock } from '../../support/both-engines.ts';
import { describeWithServers } from '../../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest, testPrefix } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { startRedis } from '../../support/servers.ts';
import { until } from '../../support/until.ts';
import { loadCacheScripts } from '../scripts.ts';

/** A value whose JSON has this many bytes, in characters of two bytes where that is possible. */
function textOf(bytes: number): string {
  const inner = bytes - '""'.length;
  return 'é'.repeat(Math.floor(inner / 2)) + 'e'.repeat(inner % 2);
}

/** A loader that counts its runs and ends when the test opens the gate. */
function heldLoad<Value>(value: Value) {
  const gate = new Gate();
  const state = { runs: 0 };
  const load = async () => {
    state.runs++;
    await gate.promise;
    return value;
  };
  return { load, state, letGo: () => gate.open() };
}

const LIMIT = 1_000;
const TOO_LARGE = { list: [textOf(LIMIT)] };

describeOnBothEngines('kit.remember with maxBytes', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  function start() {
    const kit = kitForTest({ url: url() });
    return { kit, skipped: eventsOf(kit, 'cache:skipped'), stored: eventsOf(kit, 'cache:stored') };
  }

  /** The number of loads of a value that is requested twice in turn. */
  async function loadsOf(kit: RedisKit, value: unknown, options: RememberOptions): Promise<number> {
    let loads = 0;
    const load = () => {
      loads++;
      return value;
    };
    for (const _ of [1, 2]) expect(await kit.remember('k', options, load)).toEqual(value);
    return loads;
  }

  it.each<[string, Partial<RememberOptions>]>([
    ['by default', {}],
    ['without single flight', { singleFlight: false }],
    ['without copies in the process', { local: false }],
  ])('a value is stored if its JSON in UTF-8 has at most `maxBytes` bytes: %s', async (_, options) => {
    const bounded = { ttl: '1m', maxBytes: LIMIT, ...options } as const;
    const fits = start();
    expect(await loadsOf(fits.kit, textOf(LIMIT), bounded)).toBe(1);
    expect(fits.skipped).toEqual([]);
    const exceeds = start();
    expect(await loadsOf(exceeds.kit, textOf(LIMIT + 1), bounded)).toBe(2);
    expect(exceeds.skipped).toEqual([
      { key: 'k', reason: 'too-large' },
      { key: 'k', reason: 'too-large' },
    ]);
    expect(exceeds.stored).toEqual([]);
  });

  it('a value is stored if its JSON has at most 1 MiB, the default of `maxBytes`', async () => {
    const { kit, skipped } = start();
    expect(await loadsOf(kit, textOf(2 ** 20), { ttl: '1m' })).toBe(1);
    expect(skipped).toEqual([]);
    expect(await loadsOf(start().kit, textOf(2 ** 20 + 1), { ttl: '1m' })).toBe(2);
  });

  it('each caller that waits for a loader gets a copy of a value that is too large to store', async () => {
    const { kit, skipped } = start();
    const { load, state, letGo } = heldLoad(TOO_LARGE);
    const ask = () => kit.remember('k', { ttl: '1m', maxBytes: LIMIT }, load);
    const values = Array.from({ length: 10 }, ask);
    await until('the value is being loaded', () => state.runs === 1);
    letGo();
    const all = await Promise.all(values);
    expect(all).toEqual(Array(10).fill(TOO_LARGE));
    expect(new Set(all).size).toBe(10);
    expect(state.runs).toBe(1);
    expect(skipped).toEqual([{ key: 'k', reason: 'too-large' }]);
  });

  it('concurrent callers each run the loader after a value was too large', async () => {
    const { kit } = start();
    // Longer than any test lasts, so that a caller that waits makes the test time out.
    const options = { ttl: '1m', maxBytes: LIMIT, singleFlight: { wait: '1h' } } as const;
    await kit.remember('k', options, () => TOO_LARGE);
    const { load, state, letGo } = heldLoad(TOO_LARGE);
    const values = Array.from({ length: 3 }, () => kit.remember('k', options, load));
    await until('each caller loads the value', () => state.runs === 3);
    letGo();
    expect(await Promise.all(values)).toEqual(Array(3).fill(TOO_LARGE));
  });

  it('a value that was too large is stored, and its callers share one load, once the value is small enough', async () => {
    const { kit, stored } = start();
    const options = { ttl: '1m', maxBytes: LIMIT } as const;
    await kit.remember('k', options, () => TOO_LARGE);
    expect(await kit.remember('k', options, () => 'small')).toBe('small');
    await until('the value is stored', () => stored.length === 1);
    expect(await kit.remember('k', options, () => 'never')).toBe('small');
    await kit.invalidate({ key: 'k' });
    const { load, state, letGo } = heldLoad('smaller');
    const values = Array.from({ length: 3 }, () => kit.remember('k', options, load));
    await until('the value is being loaded', () => state.runs > 0);
    letGo();
    expect(await Promise.all(values)).toEqual(Array(3).fill('smaller'));
    expect(state.runs).toBe(1);
  });

  it('kit.warm counts a value that is too large as failed and emits `cache:skipped` with its key', async () => {
    const { kit, skipped } = start();
    const entries = [
      { key: 'large', maxBytes: LIMIT, load: () => TOO_LARGE },
      { key: 'small', maxBytes: LIMIT, load: () => 'small' },
      { key: 'bounded by default', load: () => textOf(2 ** 20 + 1) },
      { key: 'none', load: () => undefined },
    ];
    expect(await kit.warm(entries, { concurrency: 1 })).toEqual({ stored: 1, failed: 3 });
    expect(skipped).toEqual([
      { key: 'large', reason: 'too-large' },
      { key: 'bounded by default', reason: 'too-large' },
      { key: 'none', reason: 'undefined' },
    ]);
    expect(await kit.remember('small', '1m', () => 'never')).toBe('small');
    expect(await kit.remember('large', '1m', () => 'loaded again')).toBe('loaded again');
  });
});

describe('a stored value that a newer, larger value replaces', () => {
  function start() {
    const clock = new TestClock();
    const kit = kitForTest({ url: 'memory:', clock });
    const options = { ttl: '1m', staleWhileRevalidate: '1h', staleIfError: '1h', maxBytes: LIMIT } as const;
    return { clock, kit, options, skipped: eventsOf(kit, 'cache:skipped') };
  }

  it('an old value is not returned after its refresh has loaded a value that is too large', async () => {
    const { clock, kit, options, skipped } = start();
    await kit.remember('k', options, () => 'old');
    clock.time += 61_000;
    expect(await kit.remember<unknown>('k', options, () => TOO_LARGE)).toBe('old');
    await until('the new value was skipped', () => skipped.length === 1);
    for (const passed of [0, 4_999, 1, 60_000]) {
      clock.time += passed;
      expect(await kit.remember<unknown>('k', options, () => TOO_LARGE)).toEqual(TOO_LARGE);
    }
    const failing = () => {
      throw new Error('on purpose');
    };
    await expect(kit.remember('k', options, failing)).rejects.toThrow('on purpose');
  });

  it('an old value is not returned after kit.warm has loaded a value that is too large', async () => {
    const { kit, options } = start();
    await kit.remember('k', options, () => 'old');
    await kit.warm([{ key: 'k', ...options, load: () => TOO_LARGE }]);
    expect(await kit.remember('k', options, () => 'new')).toBe('new');
  });
});

describeWithServers('kit.remember in two processes', () => {
  it('callers of a second process run the loader themselves once the value of the first is too large', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    await loadCacheScripts(server.url);
    const prefix = testPrefix();
    const [one, other] = [1, 2].map(() => kitForTest({ url: server.url, prefix })) as [RedisKit, RedisKit];
    for (const kit of [one, other]) await kit.remember('warm-up', '1h', () => 0);
    await until('both processes listen', () =>
      withPlainClient(server.url, async (client) => {
        const [channel = ''] = await client.pubSubChannels(`${prefix}:cache:*`);
        return channel !== '' && (await client.pubSubNumSub([channel]))[channel] === 2;
      }),
    );
    // Longer than any test lasts, so that a caller that is not woken makes the test time out.
    const singleFlight = { lease: '1h', wait: '1h' } as const;
    const options = { ttl: '1h', maxBytes: LIMIT, singleFlight } as const;
    const leader = heldLoad(TOO_LARGE);
    const first = one.remember('k', options, leader.load);
    await until('the value is being loaded', () => leader.state.runs === 1);
    const followers = heldLoad(TOO_LARGE);
    const waiting = other.remember('k', options, followers.load);
    await until('the other process waits', () =>
      withPlainClient(server.url, async (client) =>
        /^1:L:1:/.test((await client.get(`${prefix}:cache:{k}:value:fill`)) ?? ''),
      ),
    );
    leader.letGo();
    expect(await first).toEqual(TOO_LARGE);
    await until('the other process loads', () => followers.state.runs === 1);
    const later = other.remember('k', options, followers.load);
    await until('and loads again beside it', () => followers.state.runs === 2);
    followers.letGo();
    expect(await Promise.all([waiting, later])).toEqual([TOO_LARGE, TOO_LARGE]);
  });
});

it.each([
  [0, '`maxBytes` is 0; it must be a whole number from 1 to'],
  [1.5, '`maxBytes` is 1.5'],
  ['1mb', "`maxBytes` is '1mb'"],
  [2 ** 30, '`maxBytes` is 1073741824'],
])('kit.remember and kit.warm refuse a maxBytes of %j', async (maxBytes, message) => {
  const kit = kitForTest({ url: 'memory:' });
  const options = { ttl: '1m', maxBytes } as RememberOptions;
  await expect(kit.remember('k', options, () => 1)).rejects.toThrow(`kit.remember: option ${message}`);
  await expect(kit.warm([{ key: 'k', ...options, load: () => 1 }])).rejects.toThrow(message);
});
