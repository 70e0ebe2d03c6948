import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { beforeAll, expect, it } from 'vitest';
import type { RedisKit } from '../../../src/index.ts';
import { describeOnBothEngines, kitForTest } from '../../support/kits.ts';
import { loadCacheScripts } from '../scripts.ts';

/** Longer than any test lasts, so that a call that waits for itself makes the test time out. */
const OPTIONS = { ttl: '1h', singleFlight: { lease: '1h', wait: '1h' } } as const;

type Ask = () => Promise<unknown>;

/** Ways in which the loader of a key requests another value and waits for it. */
const WAYS: Readonly<Record<string, (ask: Ask) => unknown>> = {
  'returns the promise': (ask) => ask(),
  'returns the promise from an async function': async (ask) => ask(),
  'awaits it after something else': async (ask) => {
    await pause(5);
    return await ask();
  },
  'awaits it in a helper': async (ask) => {
    const helper = async () => ({ value: await ask() });
    return (await helper()).value;
  },
  'waits with then()': (ask) => ask().then((value) => ({ value })),
  'waits with Promise.all()': async (ask) => Promise.all([ask(), pause(5)]),
  'waits in a promise of its own': (ask) => new Promise((resolve, reject) => ask().then(resolve, reject)),
  'waits with finally()': async (ask) => ask().finally(() => undefined),
};

/** The result of a caller that waits for two values. */
const cycle = (message: string) => ({
  code: 'ERR_REDIS_KIT_LOAD_CYCLE',
  message: expect.stringContaining(message),
});

describeOnBothEngines('a loader of kit.remember', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  const asking = (kit: RedisKit, key: string, load: Ask): Promise<unknown> =>
    kit.remember(key, OPTIONS, load);

  it.for(Object.entries(WAYS))(
    'a loader that calls kit.remember with its own key and %s fails at once',
    async ([, wait]) => {
      const kit = kitForTest({ url: url() });
      const get: Ask = () => asking(kit, 'a', async () => wait(get));
      await expect(get()).rejects.toMatchObject(cycle("'a' > 'a'"));
      expect(await asking(kit, 'a', async () => 'a value'), 'and the next one loads').toBe('a value');
    },
  );

  it('two or three loaders that need the values of each other fail at once, and the error names the cycle of keys', async () => {
    const kit = kitForTest({ url: url() });
    const a: Ask = () => asking(kit, 'a', async () => ({ b: await b() }));
    const b: Ask = () => asking(kit, 'b', async () => ({ c: await c() }));
    const c: Ask = () => asking(kit, 'c', async () => ({ a: await a() }));
    await expect(a()).rejects.toMatchObject(cycle("'a' > 'b' > 'c' > 'a'"));
    const one: Ask = () => asking(kit, '1', async () => ({ two: await two() }));
    const two: Ask = () => asking(kit, '2', async () => ({ one: await one() }));
    await expect(two()).rejects.toMatchObject(cycle("'2' > '1' > '2'"));
  });

  it('two loaders that need the values of each other fail at once, even if different callers started them', async () => {
    const kit = kitForTest({ url: url() });
    const a: Ask = () => asking(kit, 'a', async () => ({ b: await pause(10).then(b) }));
    const b: Ask = () => asking(kit, 'b', async () => ({ a: await pause(10).then(a) }));
    const results = await Promise.allSettled([a(), b()]);
    expect(results).toMatchObject([
      { status: 'rejected', reason: { code: 'ERR_REDIS_KIT_LOAD_CYCLE' } },
      { status: 'rejected', reason: { code: 'ERR_REDIS_KIT_LOAD_CYCLE' } },
    ]);
  });

  it('a loader that catches the error of a cycle can return a value', async () => {
    const kit = kitForTest({ url: url() });
    const get: Ask = () => asking(kit, 'a', async () => get().catch(() => 'for want of the value'));
    expect(await get()).toBe('for want of the value');
  });

  it('a loader that needs another key, or the same key of another namespace, is not refused', async () => {
    const kit = kitForTest({ url: url() });
    const other = kit.namespace('other');
    const slow = (value: string) => async () => {
      await pause(60);
      return value;
    };
    const shared = asking(kit, 'shared', slow('shared'));
    const all = await Promise.all([
      shared,
      asking(kit, 'a', async () => [await asking(kit, 'shared', slow('never')), 'a']),
      asking(kit, 'b', async () => [await asking(kit, 'a', slow('never')), 'b']),
      asking(kit, 'c', async () => asking(other, 'c', slow('c'))),
    ]);
    expect(all).toEqual(['shared', ['shared', 'a'], [['shared', 'a'], 'b'], 'c']);
  });

  it('an unrelated caller in the async context of a loader waits for the value of the loader', async () => {
    const kit = kitForTest({ url: url() });
    const context = new AsyncLocalStorage<string>();
    // A pool of one connection with callbacks: releasing the connection calls the next callback in the releaser's context.
    const line: (() => void)[] = [];
    const seen: (string | undefined)[] = [];
    const stranger = new Promise<unknown>((resolve, reject) => {
      line.push(() => {
        seen.push(context.getStore());
        asking(kit, 'a', async () => 'loaded twice').then(resolve, reject);
      });
    });
    const value = await context.run('the load', () =>
      asking(kit, 'a', async () => {
        await pause(5);
        line.shift()?.();
        // Longer than it takes to look for a cycle.
        await pause(200);
        return 'loaded once';
      }),
    );
    expect([value, await stranger, seen]).toEqual(['loaded once', 'loaded once', ['the load']]);
  });
});
