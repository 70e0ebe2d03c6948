import { describe, expect, it } from 'vitest';
import type { Documents, DocumentsOptions } from '../../src/index.ts';
import { describeWithServers, redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProgram } from '../support/program.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, passTimeUntilSettled, stopClock, stopTime } from '../support/time.ts';

const DAY = { ttl: '1d' } as const;

onEveryStore('Documents', (makeKit) => {
  it('a document is stored, read, stored only if absent, and deleted', async () => {
    const drafts = makeKit().documents<{ text: string }>('drafts', DAY);
    expect(await drafts.get('a')).toBeUndefined();
    expect(await drafts.delete('a')).toBe(false);
    expect(await drafts.setIfAbsent('a', { text: 'ä\u{1f600}\ud800' })).toBe(true);
    expect(await drafts.setIfAbsent('a', { text: 'other' })).toBe(false);
    expect(await drafts.get('a')).toEqual({ text: 'ä\u{1f600}\ud800' });
    await drafts.set('a', { text: 'new' });
    expect(await drafts.get('a')).toEqual({ text: 'new' });
    expect(await drafts.delete('a')).toBe(true);
    expect(await drafts.get('a')).toBeUndefined();
  });

  it('a document is any JSON value, and a collection has the documents of its name and namespace', async () => {
    const kit = makeKit();
    const values: readonly unknown[] = [null, 0, '', false, [], {}, JSON.parse('{"__proto__":1}')];
    const all = kit.documents<unknown>('all', DAY);
    for (const value of values) {
      await all.set('a', value);
      expect(await all.get('a')).toEqual(value);
    }
    expect(await kit.documents('all', { ttl: '1h' }).get('a')).toEqual(values.at(-1));
    expect(await kit.documents('other', DAY).get('a')).toBeUndefined();
    expect(await kit.namespace('other').documents('all', DAY).get('a')).toBeUndefined();
  });

  it('200 parallel updates of one document are all applied', async () => {
    const counts = makeKit().documents<number>('counts', DAY);
    await Promise.all(Array.from({ length: 200 }, () => counts.update('n', (count = 0) => count + 1)));
    expect(await counts.get('n')).toBe(200);
  });

  it('updates whose change is asynchronous, or updates the document itself, lose no change either', async () => {
    const lists = makeKit().documents<readonly number[]>('lists', DAY);
    const append = (value: number) =>
      lists.update('a', async (list = []) => {
        if (value === 0 && !list.includes(-1)) await lists.update('a', (inner = []) => [...inner, -1]);
        return [...list, value];
      });
    await Promise.all(Array.from({ length: 10 }, (_, value) => append(value)));
    const list = await lists.get('a');
    expect(list?.toSorted((a, b) => a - b)).toEqual([-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('an update waits for any thenable, and lets other updates of the document go first meanwhile', async () => {
    const drafts = makeKit().documents<string>('drafts', DAY);
    let resolve: (value: string) => void = () => undefined;
    let slow: Promise<string | undefined> | undefined;
    const started = new Promise<void>((begin) => {
      // A promise of another library.
      const thenable = {
        // biome-ignore lint/suspicious/noThenProperty: the object is meant to be awaited
        then(fulfil: (value: string) => void) {
          resolve = fulfil;
          begin();
        },
      };
      slow = drafts.update(
        'a',
        (current) => (current === undefined ? thenable : `${current}, slow`) as string,
      );
    });
    await started;
    await drafts.update('a', () => 'fast');
    resolve('overtaken');
    expect(await slow).toBe('fast, slow');
  });

  it('an update creates, changes and deletes a document, and leaves an absent one absent', async () => {
    const drafts = makeKit().documents<readonly string[]>('drafts', DAY);
    expect(await drafts.update('a', () => undefined)).toBeUndefined();
    expect(await drafts.get('a')).toBeUndefined();
    expect(await drafts.update('a', (list = []) => [...list, 'one'])).toEqual(['one']);
    expect(await drafts.update('a', async (list = []) => [...list, 'two'])).toEqual(['one', 'two']);
    const failure = new Error('the change failed');
    await expect(drafts.update('a', () => Promise.reject(failure))).rejects.toBe(failure);
    expect(await drafts.get('a')).toEqual(['one', 'two']);
    expect(await drafts.update('a', () => undefined)).toBeUndefined();
    expect(await drafts.get('a')).toBeUndefined();
  });

  it.each(['set', 'delete', 'setAgain'] as const)(
    'an update begins again if the document has changed in the meantime (%s)',
    async (change) => {
      const drafts = makeKit().documents<string>('drafts', DAY);
      await drafts.set('a', 'before');
      const seen: (string | undefined)[] = [];
      const result = await drafts.update('a', async (current) => {
        seen.push(current);
        // The same value again is a change, too: another writer may have relied on it.
        if (seen.length === 1)
          await (change === 'delete'
            ? drafts.delete('a')
            : drafts.set('a', change === 'set' ? 'between' : 'before'));
        return `${current} and after`;
      });
      const between = { set: 'between', delete: undefined, setAgain: 'before' }[change];
      expect(seen).toEqual(['before', between]);
      expect(await drafts.get('a')).toBe(result);
    },
  );

  it('a document above maxBytes is refused and changes nothing', async () => {
    const kit = makeKit();
    const small = kit.documents<string>('small', { ...DAY, maxBytes: 100 });
    const refused = { code: 'ERR_REDIS_KIT_TOO_LARGE', status: 413 };
    await small.set('a', 'x'.repeat(98));
    await expect(small.set('a', 'x'.repeat(99))).rejects.toMatchObject(refused);
    await expect(small.setIfAbsent('b', 'ä'.repeat(50))).rejects.toMatchObject(refused);
    await expect(small.update('a', (text) => `${text}x`)).rejects.toMatchObject(refused);
    expect(await small.get('a')).toBe('x'.repeat(98));
    const large = kit.documents<string>('large', DAY);
    await large.set('a', 'x'.repeat(2 ** 20 - 2));
    await expect(large.set('a', 'x'.repeat(2 ** 20 - 1))).rejects.toThrow('takes 1048577 bytes');
  });
});

describe('A crowd of writers', () => {
  it('an update gives up when others change the document during each of 100 attempts', async () => {
    stopTime();
    const drafts = kitForTest({ url: 'memory:' }).documents<number>('drafts', DAY);
    let attempts = 0;
    const update = drafts.update('a', async () => {
      await drafts.set('a', ++attempts);
      return -1;
    });
    const failed = update.catch((error: unknown) => error);
    expect(await passTimeUntilSettled(failed, 100)).toMatchObject({
      code: 'ERR_REDIS_KIT_CONFLICT',
      status: 503,
    });
    expect(attempts).toBe(100);
    expect(await drafts.get('a')).toBe(100);
  });
});

describe('The lifetime of a document', () => {
  it('each write restarts the lifetime of a document, and a read does not', async () => {
    stopClock();
    const drafts = kitForTest({ url: 'memory:' }).documents<number>('drafts', { ttl: '1s' });
    await drafts.set('a', 1);
    await passTime(600);
    await drafts.update('a', (count = 0) => count + 1);
    await passTime(600);
    expect(await drafts.get('a')).toBe(2);
    await passTime(400);
    expect(await drafts.get('a')).toBeUndefined();
    expect(await drafts.setIfAbsent('a', 3)).toBe(true);
  });

  it('each write sets the TTL in Redis, and ttl: null removes it', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const key = `${kit.prefix}:document:{a}:forever`;
    const timed = kit.documents<number>('forever', { ttl: '1h' });
    const kept = kit.documents<number>('forever', { ttl: null });
    const writes = (drafts: Documents<number>) => [
      () => drafts.set('a', 1),
      () => drafts.update('a', (count = 0) => count + 1),
      async () => [await drafts.delete('a'), await drafts.setIfAbsent('a', 1)],
    ];
    await withPlainClient(redisUrl(), async (client) => {
      for (const write of writes(timed)) {
        await write();
        expect(await client.pTTL(key)).toBeGreaterThan(3_000_000);
        await client.pExpire(key, 1_000_000);
      }
      for (const write of writes(kept)) {
        await timed.set('a', 1);
        await write();
        expect(await client.pTTL(key)).toBe(-1);
      }
      expect(await kept.delete('a')).toBe(true);
    });
  });
});

describe('A document that cannot be read', () => {
  const start = () => {
    const kit = kitForTest({ url: redisUrl() });
    const key = `${kit.prefix}:document:{a}:drafts`;
    return { errors: eventsOf(kit, 'error'), drafts: kit.documents<number>('drafts', DAY), key };
  };

  it.each<[string, string | undefined]>([
    ['text without a head', 'garbage'],
    ['a cut head', 'D\u0001\u0014abc'],
    ['no JSON', 'D\u0001\u0001a{'],
    ['a value of another type', undefined],
  ])('%s counts as absent, is reported once, and is replaced by the next write', async (_what, value) => {
    const { errors, drafts, key } = start();
    await withPlainClient(redisUrl(), async (client) => {
      const spoil = async () => {
        await client.del(key);
        if (value === undefined) await client.lPush(key, 'garbage');
        else await client.set(key, value);
        await client.expire(key, 60);
      };
      await spoil();
      expect(await drafts.get('a')).toBeUndefined();
      expect(await drafts.update('a', (count = 0) => count + 1)).toBe(1);
      expect(await drafts.get('a')).toBe(1);
      await spoil();
      await drafts.set('a', 2);
      expect(await drafts.get('a')).toBe(2);
      await spoil();
      await drafts.delete('a');
      expect(await client.exists(key)).toBe(0);
    });
    expect(errors).toMatchObject([{ feature: 'document', error: { code: 'ERR_REDIS_KIT_CORRUPT' } }]);
  });

  it('a document of a newer version is neither read nor overwritten nor deleted', async () => {
    const { drafts, key } = start();
    const newer = 'D\u0002of a later version';
    await withPlainClient(redisUrl(), async (client) => {
      await client.set(key, newer, { EX: 60 });
      const uses = [
        () => drafts.get('a'),
        () => drafts.set('a', 1),
        () => drafts.setIfAbsent('a', 1),
        () => drafts.update('a', () => 1),
        () => drafts.delete('a'),
      ];
      for (const use of uses) {
        await expect(use(), String(use)).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_NEWER_FORMAT' });
      }
      expect(await client.get(key)).toBe(newer);
    });
  });
});

describe('kit.documents', () => {
  it.each([
    ['a', undefined, 'options must be an object'],
    ['a', {}, '`ttl` is undefined; it is required'],
    ['a', { ttl: 0 }, '`ttl` is 0'],
    ['a', { ttl: '1d', maxBytes: 2 ** 26 + 1 }, '`maxBytes`'],
    ['a', { ttl: '1d', expire: 1 }, 'it is `ttl` here'],
    ['', { ttl: '1d' }, "the name is ''"],
    [undefined, { ttl: '1d' }, 'the name is undefined'],
  ])('kit.documents rejects the name %j with the options %j', (name, options, part) => {
    const kit = kitForTest({ url: 'memory:' });
    expect(() => kit.documents(name as string, options as DocumentsOptions)).toThrow(part);
  });

  it('a wrong argument rejects with an error that names it', async () => {
    const drafts = kitForTest({ url: 'memory:' }).documents<unknown>('drafts', DAY);
    await expect(drafts.get('')).rejects.toThrow("kit.documents.get: the id is ''");
    await expect(drafts.set(7 as never, 1)).rejects.toThrow('kit.documents.set: the id is 7');
    await expect(drafts.set('a', undefined)).rejects.toThrow('the document is undefined');
    await expect(drafts.set('a', 1n)).rejects.toThrow('the document cannot be stored as JSON');
    await expect(drafts.update('a', 5 as never)).rejects.toThrow('the change is 5');
    await expect(drafts.update('a', () => () => 1)).rejects.toThrow('the document is function');
  });
});

describeWithServers('Documents of several processes', () => {
  it('four processes lose no change of one document', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const programs = Array.from({ length: 4 }, () =>
      startProgram(`
        const kit = createRedisKit({ url: '${redisUrl()}', prefix: '${kit.prefix}', commandTimeout: '1m', logger: false });
        const counts = kit.documents('counts', { ttl: '1d' });
        await Promise.all(Array.from({ length: 50 }, () => counts.update('n', (count = 0) => count + 1)));
        await kit.close();
      `),
    );
    for (const { ended } of programs) expect(await ended).toEqual({ code: 0, said: '' });
    expect(await kit.documents('counts', DAY).get('n')).toBe(200);
  });
});

it('a process on memory: lives until its updates have ended', async () => {
  const program = startProgram(`
    const kit = createRedisKit({ url: 'memory:', logger: false });
    const counts = kit.documents('counts', { ttl: '1d' });
    await Promise.all([1, 2, 3].map(() => counts.update('n', async (count = 0) => count + 1)));
    console.log(await counts.get('n'));
  `);
  expect(await program.ended).toEqual({ code: 0, said: '3' });
});
