import { setImmediate } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import type { RedisKit, RememberOptions, WarmEntry, WarmOptions } from '../../../src/index.ts';
import { Gate } from '../../http/exchange.ts';
import { TestClock } from '../../support/both-engines.ts';
import { redisUrl } from '../../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { stopClock } from '../../support/time.ts';
import { until } from '../../support/until.ts';
import { loadCacheScripts } from '../scripts.ts';

/** A loader that ends when the test says so. */
function heldLoad<Value>(value: () => Value) {
  let runs = 0;
  let letGo: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const load = async () => {
    runs++;
    await gate;
    return value();
  };
  return { load, letGo, runs: () => runs };
}

describeOnBothEngines('kit.remember', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  it.each([null, '', 0, false, [], {}, 'text', { a: [1, null, { b: '☃' }] }])(
    'a value of %j is returned unchanged',
    async (value) => {
      const kit = kitForTest({ url: url() });
      const other = kitForTest({ url: url(), prefix: kit.prefix });
      expect(await kit.remember('k', '1m', () => value)).toEqual(value);
      const never = () => {
        throw new Error('nobody loads it twice');
      };
      expect(await kit.remember('k', '1m', never)).toEqual(value);
      if (url() !== 'memory:') {
        await until('another process has it', async () => {
          return JSON.stringify(await other.remember('k', '1m', () => 'nothing')) === JSON.stringify(value);
        });
      }
    },
  );

  it('each caller gets its own copy of a value, which is parsed from JSON', async () => {
    const kit = kitForTest({ url: url() });
    const load = () => ({ at: new Date(0), gone: undefined, list: [1] });
    const first = (await kit.remember<unknown>('k', '1m', load)) as { list: number[] };
    expect(first).toEqual({ at: '1970-01-01T00:00:00.000Z', list: [1] });
    first.list.push(2);
    expect(await kit.remember<unknown>('k', '1m', load)).toEqual({
      at: '1970-01-01T00:00:00.000Z',
      list: [1],
    });
  });

  it('a value of undefined is not stored, and `cache:skipped` has the reason `undefined`', async () => {
    const kit = kitForTest({ url: url() });
    const skipped = eventsOf(kit, 'cache:skipped');
    let loads = 0;
    const load = () => (++loads > 2 ? 'there' : undefined);
    expect(await kit.remember('k', '1m', load)).toBeUndefined();
    expect(await kit.remember('k', '1m', load)).toBeUndefined();
    expect(await kit.remember('k', '1m', load)).toBe('there');
    expect(skipped).toEqual([
      { key: 'k', reason: 'undefined' },
      { key: 'k', reason: 'undefined' },
    ]);
  });

  it('the loader runs once for fifty concurrent callers', async () => {
    const kit = kitForTest({ url: url() });
    const { load, letGo, runs } = heldLoad(() => 'value');
    const values = Array.from({ length: 50 }, () => kit.remember('k', '1m', load));
    await until('it is being loaded', () => runs() === 1);
    letGo();
    expect(await Promise.all(values)).toEqual(Array(50).fill('value'));
    expect(runs()).toBe(1);
  });

  it('all callers that wait for a loader get its error, and the next caller runs the loader again', async () => {
    const kit = kitForTest({ url: url() });
    const { load, letGo, runs } = heldLoad(() => {
      throw new Error('on purpose');
    });
    const values = Array.from({ length: 5 }, () => kit.remember('k', '1m', load));
    const settled = Promise.allSettled(values);
    await until('it is being loaded', () => runs() === 1);
    letGo();
    for (const each of await settled) expect(each).toMatchObject({ reason: { message: 'on purpose' } });
    expect(runs()).toBe(1);
    expect(await kit.remember('k', '1m', () => 'again')).toBe('again');
  });

  it('kit.remember rejects with an error that names the key when JSON cannot represent the value', async () => {
    const kit = kitForTest({ url: url() });
    const error = await kit.remember('user', '1m', () => 1n).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'ERR_REDIS_KIT_CONFIG',
      message: expect.stringMatching(/^kit\.remember: the value of the key 'user' cannot be .*BigInt/),
      cause: expect.any(TypeError),
    });
    expect(await kit.remember('user', '1m', () => 1)).toBe(1);
  });

  it('kit.remember emits `cache:miss`, `cache:stored` and `cache:hit` with the key of the value', async () => {
    const kit = kitForTest({ url: url() });
    const names = ['cache:miss', 'cache:stored', 'cache:hit'] as const;
    const events = names.map((name) => eventsOf(kit, name));
    await kit.remember('k', '1m', () => 1);
    await until('it is stored', () => events[1]?.length === 1);
    await kit.remember('k', '1m', () => 2);
    expect(events).toMatchObject([[{ key: 'k' }], [{ key: 'k', bytes: expect.any(Number) }], [{ key: 'k' }]]);
  });

  it('a loader can add tags, by which the value is invalidated', async () => {
    const kit = kitForTest({ url: url() });
    let loads = 0;
    const remember = () =>
      kit.remember('k', '1m', ({ tag }) => {
        tag('author:7', 'author:9');
        return ++loads;
      });
    await remember();
    await kit.invalidate({ tags: 'author:8' });
    expect(await remember()).toBe(1);
    await kit.invalidate({ tags: 'author:9' });
    expect(await remember()).toBe(2);
    await kit.invalidate({ key: 'k' });
    expect(await remember()).toBe(3);
  });

  it('a loader sets the lifetime of its value after loading, and the lifetime reaches other processes', async () => {
    const kit = kitForTest({ url: url() });
    const stored = eventsOf(kit, 'cache:stored');
    const value = await kit.remember('k', '1h', ({ ttl }) => {
      ttl('2h');
      ttl('1m');
      return 1;
    });
    expect(value).toBe(1);
    await until('the value is stored', () => stored.length === 1);
    if (url() === 'memory:') return;
    await withPlainClient(url(), async (client) => {
      const leftMs = await client.pTTL(`${kit.prefix}:cache:{k}:value`);
      expect(leftMs).toBeGreaterThan(0);
      expect(leftMs).toBeLessThanOrEqual(60_000);
    });
  });

  it.each<[unknown]>([[0], ['1 minute'], [undefined], [Number.NaN]])(
    'kit.remember rejects when a loader sets the lifetime to %j',
    async (duration) => {
      const kit = kitForTest({ url: url() });
      const remember = kit.remember('k', '1m', ({ ttl }) => ttl(duration as never));
      await expect(remember).rejects.toThrow(/^context\.ttl: .* is no duration; give one like '30s'$/);
    },
  );

  it('a loader gets no stale value if none is stored, or if the value is invalid', async () => {
    const kit = kitForTest({ url: url() });
    const stored = eventsOf(kit, 'cache:stored');
    const options = { ttl: '1m', staleIfError: '1h' } as const;
    const seen: unknown[] = [];
    const remember = () => kit.remember('k', options, ({ stale }) => seen.push(stale));
    await remember();
    await until('the value is stored', () => stored.length === 1);
    await kit.invalidate({ key: 'k' });
    await remember();
    expect(seen).toEqual([undefined, undefined]);
  });

  it.each([{ staleWhileRevalidate: '1h' }, { staleIfError: '1h' }] as const)(
    'a loader that refreshes a value gets a copy of the stale one and can return it again: %j',
    async (window) => {
      const kit = kitForTest({ url: url() });
      const stored = eventsOf(kit, 'cache:stored');
      const seen: unknown[] = [];
      const options = { ttl: '1m', ...window } as const;
      const remember = () =>
        kit.remember<{ etag: string }>('k', options, ({ stale }) => {
          seen.push(stale);
          return stale ?? { etag: 'a' };
        });
      await remember();
      await until('the value is stored', () => stored.length === 1);
      await kit.invalidate({ key: 'k', soft: true });
      expect(await remember()).toEqual({ etag: 'a' });
      await until('the value is stored again', () => stored.length === 2);
      expect(await remember()).toEqual({ etag: 'a' });
      expect(seen).toEqual([undefined, { etag: 'a' }]);
    },
  );

  it('the signal of a loader aborts when the kit is closed', async () => {
    const kit = kitForTest({ url: url() });
    let signal: AbortSignal | undefined;
    const value = kit.remember('k', '1m', (context) => {
      signal = context.signal;
      return new Promise<string>((resolve) => {
        signal?.addEventListener('abort', () => resolve('stopped'));
      });
    });
    await until('it is being loaded', () => signal !== undefined);
    expect(signal?.aborted).toBe(false);
    await kit.close();
    expect(await value).toBe('stopped');
  });
});

describe('a cached value', () => {
  function start(options: RememberOptions) {
    const clock = new TestClock();
    const kit = kitForTest({ url: 'memory:', clock });
    const state = { loads: 0, fails: false };
    const remember = () =>
      kit.remember('k', options, () => {
        state.loads++;
        if (state.fails) throw new Error('on purpose');
        return state.loads;
      });
    return { clock, kit, state, remember };
  }

  it.each([true, false])(
    'a value expires exactly when its `ttl` has passed (local copy: %s)',
    async (isHeld) => {
      const { clock, remember } = start({ ttl: '1s', ...(isHeld ? {} : { local: false }) });
      expect(await remember()).toBe(1);
      clock.time += 999;
      expect(await remember()).toBe(1);
      clock.time += 1;
      expect(await remember()).toBe(2);
    },
  );

  it('a stale value is returned within `staleWhileRevalidate` while the loader refreshes it in the background', async () => {
    const { clock, kit, state, remember } = start({ ttl: '1s', staleWhileRevalidate: '10s' });
    const [stale, stored] = [eventsOf(kit, 'cache:stale'), eventsOf(kit, 'cache:stored')];
    await remember();
    clock.time += 10_999;
    expect(await remember()).toBe(1);
    await until('it is loaded anew', () => stored.length === 2);
    expect(await remember()).toBe(2);
    expect([state.loads, stale.length]).toEqual([2, 1]);
    clock.time += 11_000;
    expect(await remember()).toBe(3);
  });

  it('a value is fresh as long as its loader says, and not as long as the option `ttl`', async () => {
    const { clock, kit } = start({ ttl: '1h' });
    let loads = 0;
    const remember = () =>
      kit.remember('chosen', '1h', ({ ttl }) => {
        ttl('1s');
        return ++loads;
      });
    await remember();
    clock.time += 999;
    expect(await remember()).toBe(1);
    clock.time += 1;
    expect(await remember()).toBe(2);
  });

  it('a stale value is returned within `staleIfError` when its loader fails', async () => {
    const { clock, kit, state, remember } = start({ ttl: '1s', staleIfError: '10s' });
    const errors = eventsOf(kit, 'error');
    await remember();
    clock.time += 10_999;
    state.fails = true;
    expect(await Promise.all([remember(), remember()])).toEqual([1, 1]);
    expect(state.loads).toBe(2);
    expect(errors).toMatchObject([{ feature: 'cache', error: { message: 'on purpose' } }]);
    clock.time += 1;
    await expect(remember()).rejects.toThrow('on purpose');
  });

  it('`jitter` shortens the lifetimes of values at random, by at most this fraction of `ttl`', async () => {
    const { clock, kit } = start({ ttl: '1s' });
    const options = { ttl: '1000s', jitter: 0.5, local: false } as const;
    const keys = Array.from({ length: 200 }, (_, index) => `k${index}`);
    const loaded = new Set<string>();
    const rememberAll = async () => {
      loaded.clear();
      for (const key of keys) {
        await kit.remember(key, options, () => {
          loaded.add(key);
          return key;
        });
      }
      return loaded.size;
    };
    await rememberAll();
    clock.time += 499_999;
    expect(await rememberAll()).toBe(0);
    clock.time += 250_000;
    const ended = await rememberAll();
    expect(ended).toBeGreaterThan(40);
    expect(ended).toBeLessThan(160);
  });
});

describe('a cached value on Redis', () => {
  it.each(['garbage', 'C\u0001short', '', 'V\u0001\u0000\u0001x'])(
    'a Redis string of %j is not returned as a cached value',
    async (garbage) => {
      const kit = kitForTest({ url: redisUrl() });
      const errors = eventsOf(kit, 'error');
      await withPlainClient(redisUrl(), (client) =>
        client.set(`${kit.prefix}:cache:{k}:value`, garbage, { PX: 60_000 }),
      );
      expect(await kit.remember('k', '1m', () => 'loaded')).toBe('loaded');
      expect(await kit.remember('k', '1m', () => 'again')).toBe('loaded');
      // A marker is neither a value nor corrupt.
      if (!garbage.startsWith('V')) {
        expect(errors).toMatchObject([{ feature: 'cache', error: { code: 'ERR_REDIS_KIT_CORRUPT' } }]);
      }
    },
  );
});

describe('kit.warm', () => {
  it('kit.warm runs up to `concurrency` loaders at once, stores all values, and reports the progress', async () => {
    const kit = kitForTest({ url: 'memory:' });
    let [running, most] = [0, 0];
    const entries = Array.from({ length: 30 }, (_, index) => ({
      key: `k${index}`,
      ttl: '1m' as const,
      load: async () => {
        most = Math.max(most, ++running);
        await setImmediate();
        running--;
        return index;
      },
    }));
    const progress: (number | undefined)[][] = [];
    const onProgress = (done: number, total: number | undefined) => void progress.push([done, total]);
    const result = await kit.warm(entries, { concurrency: 3, onProgress });
    expect(result).toEqual({ stored: 30, failed: 0 });
    expect(most).toBe(3);
    expect(progress).toEqual(entries.map((_, index) => [index + 1, 30]));
    expect(await kit.remember('k7', '1m', () => 'not again')).toBe(7);
  });

  it('kit.warm replaces stored values, and continues after an entry has failed', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const errors = eventsOf(kit, 'error');
    await kit.remember('a', '1m', () => 'old');
    function* entries(): Generator<WarmEntry> {
      yield { key: 'a', load: () => 'new' };
      yield {
        key: 'b',
        load: () => {
          throw new Error('on purpose');
        },
      };
      yield { key: 'c', load: () => undefined };
      yield { key: 'd', load: () => 'd' };
    }
    const totals: unknown[] = [];
    const result = await kit.warm(entries(), { onProgress: (_, total) => void totals.push(total) });
    expect(result).toEqual({ stored: 2, failed: 2 });
    expect(totals).toEqual([undefined, undefined, undefined, undefined]);
    expect(await kit.remember('a', '1m', () => 'newer')).toBe('new');
    expect(errors).toMatchObject([{ error: { message: 'on purpose' } }]);
  });

  it('kit.warm continues after a value that JSON cannot represent', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const errors = eventsOf(kit, 'error');
    const entries = [
      { key: 'count', load: () => 1n },
      { key: 'name', load: () => 'ann' },
    ];
    expect(await kit.warm(entries)).toEqual({ stored: 1, failed: 1 });
    expect(errors).toMatchObject([{ error: { message: expect.stringContaining("the key 'count'") } }]);
  });

  it('kit.warm runs no further loader after it has rejected', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const gate = new Gate();
    let loads = 0;
    const load = async () => {
      loads++;
      await gate.promise;
    };
    const skipped = eventsOf(kit, 'cache:skipped');
    const entries = Array.from({ length: 10 }, (_, index) => ({ key: `k${index}`, load }));
    const invalid = { key: 'invalid', ttl: 'long' as never, load };
    await expect(kit.warm([...entries.slice(0, 3), invalid, ...entries.slice(3)])).rejects.toThrow('ttl');
    gate.open();
    await until('the loaders that ran have ended', () => skipped.length === 3);
    await setImmediate();
    expect(loads).toBe(3);
  });

  it('kit.warm takes an entry from the iterator only when a loader can run', async () => {
    const kit = kitForTest({ url: 'memory:' });
    let taken = 0;
    let loaded = 0;
    async function* entries() {
      for (; taken < 20; taken++) {
        expect(taken - loaded).toBeLessThanOrEqual(2);
        yield { key: `k${taken}`, load: () => ++loaded };
      }
    }
    expect(await kit.warm(entries(), { concurrency: 2 })).toEqual({ stored: 20, failed: 0 });
  });
});

describe('invalid arguments of kit.remember', () => {
  const kit = () => kitForTest({ url: 'memory:', cachePolicies: { pages: { ttl: '1m' } } });
  const remember = (key: unknown, options: unknown, load: unknown) => (of: RedisKit) =>
    of.remember(key as string, options as RememberOptions, load as () => string);
  const warm = (entries: unknown, options?: unknown) => (of: RedisKit) =>
    of.warm(entries as WarmEntry[], options as WarmOptions);
  const load = () => 'value';

  it.each<[string, (of: RedisKit) => Promise<unknown>, string]>([
    ['an empty key', remember('', '1m', load), 'the key is'],
    ['a key that is no string', remember(7, '1m', load), 'the key is 7'],
    ['no ttl', remember('k', {}, load), '`ttl`'],
    ['a ttl of nothing', remember('k', 0, load), '`ttl` is 0'],
    ['no load', remember('k', '1m', undefined), 'the load is undefined'],
    ['an unknown policy', remember('k', { policy: 'page' }, load), 'did you mean `pages`?'],
    ['an unknown option', remember('k', { ttl: '1m', tag: 'a' }, load), 'did you mean `tags`?'],
    [
      'tags that are none',
      remember('k', { ttl: '1m', tags: [7] }, load),
      'option `tags`: the tags are an array of 1',
    ],
    ['a jitter above 1', remember('k', { ttl: '1m', jitter: 2 }, load), '`jitter` is 2'],
    ['entries that are none', warm(7), 'the entries are 7'],
    ['an entry with a wrong option', warm([{ key: 'k', load, tll: 1 }]), 'did you mean `ttl`?'],
    ['a concurrency of 0', warm([], { concurrency: 0 }), '`concurrency` is 0'],
  ])('an invalid argument is refused: %s', async (_, call, part) => {
    await expect(call(kit())).rejects.toThrow(part);
  });

  it.each<[unknown, string]>([
    [{ pages: {} }, 'cachePolicies.pages: option `ttl`'],
    [{ pages: { ttl: '1m', max: 3 } }, 'unknown option `max`'],
    [{ pages: { ttl: '1m', maxEntries: 0 } }, '`maxEntries` is 0'],
    [[], '`cachePolicies` must be an object'],
  ])('an invalid policy is refused when the kit is created: %j', (cachePolicies, part) => {
    expect(() => kitForTest({ url: 'memory:', cachePolicies: cachePolicies as never })).toThrow(part);
  });
});

describeOnBothEngines('a cache policy', (url) => {
  it('a policy sets the `ttl` and the `maxEntries` of the values whose option `policy` names it', async () => {
    const cachePolicies = { few: { ttl: '1m', maxEntries: 3, jitter: 0 } } as const;
    const kit = kitForTest({ url: url(), cachePolicies });
    const stored = eventsOf(kit, 'cache:stored');
    let loads = 0;
    const remember = (key: string) => kit.remember(key, { policy: 'few', local: false }, () => ++loads);
    for (const key of ['a', 'b', 'c', 'd', 'e']) await remember(key);
    await until('all are stored', () => stored.length === 5);
    expect([await remember('c'), await remember('d'), await remember('e')]).toEqual([3, 4, 5]);
    expect(await remember('a')).toBe(6);
  });

  it('a policy with ten entries holds the ten newest of 25 values, also of one millisecond', async () => {
    const kit = kitForTest({ url: url(), cachePolicies: { few: { ttl: '1m', maxEntries: 10 } } });
    const stored = eventsOf(kit, 'cache:stored');
    const keys = Array.from({ length: 25 }, (_, index) => `value ${25 - index}`);
    const hits = eventsOf(kit, 'cache:hit');
    const remember = (key: string) => kit.remember(key, { policy: 'few', local: false }, () => key);
    stopClock();
    for (const [index, key] of keys.entries()) {
      await remember(key);
      await until('the value is stored', () => stored.length === index + 1);
    }
    for (const key of keys.slice(-10)) await remember(key);
    expect(hits).toEqual(keys.slice(-10).map((key) => ({ key })));
    for (const key of keys.slice(0, 15)) await remember(key);
    expect(hits).toHaveLength(10);
  });
});
