import { describe, expect, it } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import { ANY_REVISION, documentWrite } from '../../src/documents/operations/write.ts';
import { memoryEngine } from '../../src/engine/memory-engine.ts';
import { MemoryKeyspace } from '../../src/engine/memory-keyspace.ts';
import type { Operation } from '../../src/engine/operation.ts';
import type { Members, MembersOptions } from '../../src/index.ts';
import { membersAdd, membersRemove } from '../../src/members/operations/write.ts';
import { stateAll } from '../../src/state/operations/read.ts';
import { stateSet } from '../../src/state/operations/write.ts';
import { redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, stopClock } from '../support/time.ts';

const DAY = { ttl: '1d' } as const;

/** Reads all pages. `between` runs after each page. */
async function pagesOf(
  members: Members,
  limit: number,
  between: (page: readonly string[]) => unknown = () => undefined,
): Promise<string[][]> {
  const pages: string[][] = [];
  for (let after: string | undefined; ; ) {
    const page = await members.list('a', { after, limit });
    pages.push(page.members);
    await between(page.members);
    if (page.next === undefined) return pages;
    after = page.next;
  }
}

onEveryStore('Sets of members', (makeKit) => {
  it('members are added, found, counted and removed, each set apart from the others', async () => {
    const kit = makeKit();
    const followers = kit.members('followers', DAY);
    expect(await followers.add('ann', 'bob')).toBe(true);
    expect(await followers.add('ann', 'bob')).toBe(false);
    expect(await followers.add('ann', 'eve')).toBe(true);
    expect([await followers.has('ann', 'bob'), await followers.has('ann', 'joe')]).toEqual([true, false]);
    expect([await followers.size('ann'), await followers.size('bob')]).toEqual([2, 0]);
    expect(await kit.members('other', DAY).list('ann')).toEqual({ members: [] });
    expect(await kit.namespace('other').members('followers', DAY).size('ann')).toBe(0);
    expect([await followers.remove('ann', 'bob'), await followers.remove('ann', 'bob')]).toEqual([
      true,
      false,
    ]);
    expect(await followers.list('ann')).toEqual({ members: ['eve'] });
    await followers.clear('ann');
    expect(await followers.size('ann')).toBe(0);
  });

  it('all pages together list each member once, in the order of the bytes', async () => {
    const all = makeKit().members('all', DAY);
    const names = ['b', 'a', '\u{1f600}', '\uffff', 'é', 'aa', '*', '"', '"\\ud800"', 'a\0', ' '];
    const odd = ['\ud800', '\udc00', '\udc00\ud800'];
    for (const name of [...names, ...odd]) expect(await all.add('a', name), name).toBe(true);
    const byBytes = names
      .filter((name) => !name.startsWith('"'))
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const expected = (await all.list('a')).members;
    expect(expected.toSorted()).toEqual([...names, ...odd].toSorted());
    expect(expected.filter((name) => byBytes.includes(name))).toEqual(byBytes);
    for (const limit of [1, 2, 7, 13, 14]) {
      const pages = await pagesOf(all, limit);
      expect(pages.flat(), String(limit)).toEqual(expected);
      expect(pages).toHaveLength(Math.ceil(expected.length / limit));
    }
  });

  it('a cursor is right when its member has gone, and when members come, go and are renewed', async () => {
    const all = makeKit().members('all', DAY);
    for (const name of ['b', 'd', 'f', 'h', 'j']) await all.add('a', name);
    const pages = await pagesOf(all, 2, async (page) => {
      if (page[0] !== 'b') return;
      await Promise.all([all.remove('a', 'd'), all.remove('a', 'f'), all.add('a', 'b'), all.add('a', 'a')]);
      await Promise.all([all.add('a', 'e'), all.add('a', 'h', { ttl: '1h' }), all.add('a', 'k')]);
    });
    expect(pages).toEqual([
      ['b', 'd'],
      ['e', 'h'],
      ['j', 'k'],
    ]);
  });

  it('parallel additions of one member are new once', async () => {
    const all = makeKit().members('all', DAY);
    const added = await Promise.all(Array.from({ length: 20 }, () => all.add('a', 'b')));
    expect(added.filter((isNew) => isNew)).toHaveLength(1);
  });
});

describe('The lifetime of a member', () => {
  it('each member expires by itself, and an expired member is new again', async () => {
    stopClock();
    const all = kitForTest({ url: 'memory:' }).members('all', { ttl: '3s' });
    await all.add('a', 'three');
    await all.add('a', 'one', { ttl: '1s' });
    await all.add('a', 'two', { ttl: '2s' });
    const state = async () => [await all.size('a'), (await all.list('a')).members, await all.has('a', 'one')];
    await passTime(999);
    expect(await state()).toEqual([3, ['one', 'three', 'two'], true]);
    await passTime(1);
    expect(await state()).toEqual([2, ['three', 'two'], false]);
    expect(await all.remove('a', 'one')).toBe(false);
    await passTime(500);
    expect(await all.add('a', 'one', { ttl: '1s' }), 'new again').toBe(true);
    expect(await all.add('a', 'two'), 'renewed').toBe(false);
    await passTime(500);
    expect(await state()).toEqual([3, ['one', 'three', 'two'], true]);
    await passTime(1_000);
    expect(await state()).toEqual([1, ['two'], false]);
    await passTime(1_500);
    expect(await state()).toEqual([0, [], false]);
  });

  it('a page skips expired members and is as long as there are others', async () => {
    stopClock();
    const all = kitForTest({ url: 'memory:' }).members('all', { ttl: null });
    for (let index = 0; index < 30; index++) {
      const ttl = index % 3 === 0 ? null : ('1s' as const);
      await all.add('a', String(index).padStart(2, '0'), { ttl });
    }
    await passTime(1_000);
    expect(await pagesOf(all, 4)).toEqual([
      ['00', '03', '06', '09'],
      ['12', '15', '18', '21'],
      ['24', '27'],
    ]);
  });

  it('the keys in Redis live as long as the last member, or without a TTL if a member never expires', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const all = kit.members('forever', { ttl: '1h' });
    const keys = ['', ':expiries'].map((part) => `${kit.prefix}:members:{a}:forever${part}`);
    await withPlainClient(redisUrl(), async (client) => {
      const minutes = () =>
        Promise.all(keys.map(async (key) => Math.round((await client.pTTL(key)) / 60_000)));
      await all.add('a', 'hour');
      expect(await minutes()).toEqual([60, 60]);
      await all.add('a', 'day', { ttl: '1d' });
      expect(await minutes()).toEqual([1_440, 1_440]);
      await all.remove('a', 'day');
      expect(await minutes()).toEqual([60, 60]);
      await all.add('a', 'ever', { ttl: null });
      expect(await Promise.all(keys.map((key) => client.pTTL(key)))).toEqual([-1, -1]);
      await all.add('a', 'ever', { ttl: '2h' });
      expect(await minutes()).toEqual([120, 120]);
      await all.clear('a');
      expect(await client.exists(keys)).toBe(0);
    });
  });
});

describe('A set that cannot be read', () => {
  it.each(['', ':expiries'])(
    'a value of another type in the key "%s" is reported once and replaced by the next write',
    async (part) => {
      const kit = kitForTest({ url: redisUrl() });
      const all = kit.members('all', DAY);
      const errors = eventsOf(kit, 'error');
      await withPlainClient(redisUrl(), async (client) => {
        const spoil = () => client.set(`${kit.prefix}:members:{a}:all${part}`, 'garbage', { EX: 60 });
        const sizeThere = part === '' ? 0 : 1;
        await all.add('a', 'b');
        await spoil();
        expect([await all.size('a'), await all.has('a', 'b')]).toEqual([sizeThere, sizeThere === 1]);
        expect((await all.list('a')).members).toHaveLength(sizeThere);
        expect(await all.add('a', 'c')).toBe(true);
        expect(await all.size('a')).toBe(sizeThere + 1);
        await spoil();
        expect(await all.remove('a', 'c')).toBe(sizeThere === 1);
        await all.clear('a');
      });
      expect(errors).toMatchObject([{ feature: 'members', error: { code: 'ERR_REDIS_KIT_CORRUPT' } }]);
    },
  );
});

describe('kit.members', () => {
  it.each([
    ['a', undefined, 'options must be an object'],
    ['a', {}, '`ttl` is undefined; it is required'],
    ['a', { ttl: '0s' }, "`ttl` is '0s'"],
    ['a', { maxAge: '1d', ttl: null }, 'it is `ttl` here'],
    ['', { ttl: '1d' }, "the name is ''"],
  ])('kit.members rejects the name %j with the options %j', (name, options, part) => {
    const kit = kitForTest({ url: 'memory:' });
    expect(() => kit.members(name, options as MembersOptions)).toThrow(part);
  });

  it('a wrong argument rejects with an error that names it', async () => {
    const all = kitForTest({ url: 'memory:' }).members('all', DAY);
    await expect(all.add('', 'b')).rejects.toThrow("kit.members.add: the id is ''");
    await expect(all.add('a', 7 as never)).rejects.toThrow('kit.members.add: the member is 7');
    await expect(all.has('a', '')).rejects.toThrow("kit.members.has: the member is ''");
    await expect(all.add('a', 'b', { ttl: 0 })).rejects.toThrow('`ttl` is 0');
    await expect(all.add('a', 'b', { expire: 1 } as never)).rejects.toThrow('it is `ttl` here');
    await expect(all.list('a', { limit: 1_001 })).rejects.toThrow('`limit` is 1001');
    for (const after of ['', 'no cursor', 'a'.repeat(7), 7, null]) {
      await expect(all.list('a', { after } as never), String(after)).rejects.toThrow(
        'it must be the `next` of a page',
      );
    }
    const tooLarge = { code: 'ERR_REDIS_KIT_TOO_LARGE' };
    await expect(all.add('a', 'x'.repeat(8_193))).rejects.toMatchObject(tooLarge);
    expect(await all.add('a', 'x'.repeat(8_192))).toBe(true);
  });
});

describe('A full space on memory:', () => {
  const limits = { maxEntries: 1_000, maxBytes: 20_000, whenFull: 'refuse' } as const;
  const keys = new Keys('t');

  it('a refused member leaves no trace, and members that exist can be renewed and removed', async () => {
    const memory = new MemoryKeyspace({ now: () => 0 }, { members: limits });
    const engine = memoryEngine(memory, { now: () => 0 });
    const { members, expiries } = keys.members('all', 'a');
    const run = <Args>(operation: Operation<Args, unknown>, args: Args) =>
      engine.run(operation, [members, expiries], args);
    let added = 0;
    const addMore = () => run(membersAdd, { member: `${added}`.padStart(700, 'x'), ttl: 1_000 });
    const full = async () => {
      for (; ; added++) await addMore();
    };
    await expect(full()).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_FULL' });
    expect(added).toBeGreaterThan(5);
    expect([memory.sortedSet(members)?.size, memory.sortedSet(expiries)?.size]).toEqual([added, added]);
    const first = '0'.padStart(700, 'x');
    expect(await run(membersAdd, { member: first, ttl: 2_000 })).toMatchObject({ had: true });
    expect(await run(membersRemove, { member: first })).toMatchObject({ had: true });
    expect(await addMore()).toMatchObject({ had: false });
  });

  it('a refused field and a refused document change nothing, and what exists can be overwritten', async () => {
    const memory = new MemoryKeyspace({ now: () => 0 }, { state: limits, document: limits });
    const engine = memoryEngine(memory, { now: () => 0 });
    const full = { code: 'ERR_REDIS_KIT_FULL' };
    const bounds = { ttl: null, maxFields: 1_000 };
    const set = (field: string, letter: string, length: number) =>
      engine.run(stateSet, [keys.state('app', 'app')], {
        ...bounds,
        values: [[field, letter.repeat(length)]],
      });
    await set('a', '1', 15_000);
    await expect(set('b', '2', 10_000)).rejects.toMatchObject(full);
    await set('a', '3', 15_000);
    await expect(set('a', '4', 30_000)).rejects.toMatchObject(full);
    const { entries } = await engine.run(stateAll, [keys.state('app', 'app')], { touch: 0 });
    expect(entries).toEqual([['a', '3'.repeat(15_000)]]);
    const write = (id: string, document: string) =>
      engine.run(documentWrite, [keys.document('all', id)], { expected: ANY_REVISION, ttl: null, document });
    await write('a', '1'.repeat(15_000));
    await expect(write('b', '2'.repeat(10_000))).rejects.toMatchObject(full);
    await write('a', '3'.repeat(15_000));
    expect(memory.get(keys.document('all', 'a'))?.toString()).toBe('3'.repeat(15_000));
  });
});
