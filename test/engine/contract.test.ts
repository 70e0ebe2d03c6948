import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import { cacheRead } from '../../src/cache/store/operations/read.ts';
import { cacheWrite } from '../../src/cache/store/operations/write.ts';
import { concurrencyAcquire } from '../../src/concurrency/operations/acquire.ts';
import { concurrencyRelease } from '../../src/concurrency/operations/release.ts';
import { concurrencyRenew } from '../../src/concurrency/operations/renew.ts';
import { documentRead } from '../../src/documents/operations/read.ts';
import { ANY_REVISION, documentWrite } from '../../src/documents/operations/write.ts';
import { packDocument } from '../../src/documents/stored-document.ts';
import type { Engine } from '../../src/engine/port.ts';
import { idempotencyBegin } from '../../src/idempotency/operations/begin.ts';
import { idempotencyComplete } from '../../src/idempotency/operations/complete.ts';
import { idempotencyDiscard } from '../../src/idempotency/operations/discard.ts';
import { idempotencyRenew } from '../../src/idempotency/operations/renew.ts';
import { lockAcquire } from '../../src/lock/operations/acquire.ts';
import { lockExtend } from '../../src/lock/operations/extend.ts';
import { lockRelease } from '../../src/lock/operations/release.ts';
import { logAppend } from '../../src/log/operations/append.ts';
import { logClear } from '../../src/log/operations/clear.ts';
import { logRead } from '../../src/log/operations/read.ts';
import { membersHas, membersList, membersSize } from '../../src/members/operations/read.ts';
import { membersAdd, membersRemove } from '../../src/members/operations/write.ts';
import { fixedWindow } from '../../src/rate-limit/operations/fixed-window.ts';
import { slidingWindow } from '../../src/rate-limit/operations/sliding-window.ts';
import { limitTake } from '../../src/rate-limit/operations/take.ts';
import { tokenBucket } from '../../src/rate-limit/operations/token-bucket.ts';
import { sessionRead } from '../../src/session/operations/read.ts';
import { sessionWrite } from '../../src/session/operations/write.ts';
import { stateIncrement } from '../../src/state/operations/increment.ts';
import { stateAll, stateGet } from '../../src/state/operations/read.ts';
import { stateDelete, stateSet } from '../../src/state/operations/write.ts';
import { type BothEngines, startBothEngines } from '../support/both-engines.ts';

/** The contract of all engines. A new engine is one more row. */
let both: BothEngines;
let tests = 0;

beforeAll(async () => {
  both = await startBothEngines();
});

afterAll(() => both.stop());

const HOUR = 3_600_000;

describe.each(['memory', 'redis'] as const)('the %s engine', (name) => {
  const engine = (): Engine => both[name];
  const keys = () => new Keys(`${both.prefix}:contract-${tests}`);
  const later = (ms: number) => {
    both.clock.time += ms;
  };
  const fresh = (promise: string, test: () => Promise<void>) =>
    it(promise, async () => {
      tests++;
      await test();
    });

  fresh(
    'a limiter allows requests within the limit, refuses others, and allows them again after the window',
    async () => {
      const policies = [{ algorithm: slidingWindow, numbers: [2, HOUR, 1] as const }];
      const take = () =>
        engine().run(limitTake(policies), [keys().rate('ann', 'p')], { mode: 'take', costs: [1], policies });
      expect(await take()).toMatchObject([{ allowed: true, used: 1 }]);
      later(1_000);
      expect(await take()).toMatchObject([{ allowed: true, used: 2 }]);
      expect(await take()).toMatchObject([{ allowed: false, used: 2, waitMs: HOUR - 1_000 }]);
      later(HOUR - 1_001);
      expect(await take()).toMatchObject([{ allowed: false, waitMs: 1 }]);
      later(1);
      expect(await take()).toMatchObject([{ allowed: true, used: 2 }]);
    },
  );

  fresh('a limiter charges either all policies of an identity or none', async () => {
    const policies = [
      { algorithm: slidingWindow, numbers: [10, HOUR, 1] as const },
      { algorithm: tokenBucket, numbers: [1, HOUR, 1] as const },
    ];
    const both = [keys().rate('ann', 'window'), keys().rate('ann', 'bucket')];
    const take = () => engine().run(limitTake(policies), both, { mode: 'take', costs: [1], policies });
    expect(await take()).toMatchObject([
      { allowed: true, used: 1 },
      { allowed: true, used: 1 },
    ]);
    expect(await take()).toMatchObject([
      { allowed: true, used: 1 },
      { allowed: false, used: 1 },
    ]);
  });

  fresh('a session expires after its idle time without use, or after its absolute time', async () => {
    const key = [keys().session('id')];
    const data = Buffer.from('{"cookie":{},"n":1}');
    const write = (mode: 'create' | 'update') =>
      engine().run(sessionWrite, key, {
        mode,
        revision: 0,
        idle: HOUR,
        absolute: 3 * HOUR,
        touchAfter: 60_000,
        maxBytes: 1_000,
        owner: '',
        data,
      });
    const read = () => engine().run(sessionRead, key, { touchAfter: 60_000, idle: HOUR });
    expect(await write('update')).toMatchObject({ outcome: 'gone' });
    expect(await write('create')).toMatchObject({ outcome: 'written' });
    expect(await write('create')).toMatchObject({ outcome: 'gone' });
    for (let use = 0; use < 3; use++) {
      expect((await read()).data).toEqual(data);
      later(HOUR - 1);
    }
    // The absolute deadline ends a session that is in use.
    expect((await read()).data).toEqual(data);
    later(3);
    expect((await read()).data).toBeNull();
    expect(await write('update')).toMatchObject({ outcome: 'gone' });
  });

  fresh('the bytes of a stored response are returned unchanged until it expires', async () => {
    const { entry, fill } = keys().cache('page');
    const payload = Buffer.from(Array.from({ length: 512 }, (_, byte) => byte % 256));
    const asked = { names: '', minSequence: 0, token: '', lease: 0 };
    const read = () => engine().run(cacheRead, [entry, fill], asked);
    const made = {
      fresh: HOUR,
      keep: 2 * HOUR,
      sequence: 7,
      names: '',
      variant: '',
      maxVariants: 1,
      payload,
    };
    const notice = { token: '', channel: `${both.prefix}:none`, message: '' };
    expect(await read()).toMatchObject({ payload: null, found: 'fine' });
    expect(await engine().run(cacheWrite, [entry, fill], { ...made, ...notice })).toMatchObject({
      stored: true,
    });
    later(1_500);
    expect(await read()).toMatchObject({ payload, age: 1_500, left: HOUR - 1_500, sequence: 7 });
    later(HOUR);
    expect(await read()).toMatchObject({ payload, left: -1_500 });
    later(HOUR);
    expect(await read()).toMatchObject({ payload: null });
  });

  fresh('a lock is granted to one holder, with a fence that only grows', async () => {
    const { lock: key, line, fence } = keys().lock('order');
    const asked = { waitMs: 0, process: '', channels: 'calls:', isFair: true };
    const acquire = (token: string) =>
      engine().run(lockAcquire, [key, line, fence], { ...asked, token, lease: HOUR, metadata: '' });
    const release = (token: string) => engine().run(lockRelease, [key, line], { ...asked, token });
    const first = await acquire('ann');
    expect(first.granted).toBe(true);
    expect(await acquire('bob')).toMatchObject({ granted: false, leftMs: HOUR });
    expect(await release('bob')).toBe(false);
    expect(await engine().run(lockExtend, [key], { token: 'bob', lease: HOUR })).toBe(false);
    expect(await engine().run(lockExtend, [key], { token: 'ann', lease: 2 * HOUR })).toBe(true);
    later(2 * HOUR);
    expect(await engine().run(lockExtend, [key], { token: 'ann', lease: HOUR })).toBe(false);
    const second = await acquire('bob');
    expect(second.granted).toBe(true);
    expect(second.fence).toBeGreaterThan(first.fence);
    expect(await release('bob')).toBe(true);
    later(-4 * HOUR);
    expect((await acquire('eve')).fence).toBeGreaterThan(second.fence);
  });

  fresh('an idempotent request runs once, and its response is stored for the retention time', async () => {
    const key = [keys().idempotency('ann', 'order')];
    const fingerprint = Buffer.alloc(32, 7);
    const notice = { channel: `${both.prefix}:none` };
    const begin = (token: string, asked = fingerprint) => {
      const args = { token, fingerprint: asked, lease: 1_000, retention: HOUR, waits: false };
      return engine().run(idempotencyBegin, key, args);
    };
    const complete = (token: string, attempt: number, response: Buffer | undefined) => {
      const args = { ...notice, token, fingerprint, attempt, retention: HOUR, response };
      return engine().run(idempotencyComplete, key, args);
    };
    const renew = (token: string, attempt: number) => {
      const args = { token, fingerprint, attempt, lease: 1_000, retention: HOUR };
      return engine().run(idempotencyRenew, key, args);
    };
    const discard = (token: string, hasRun = true) =>
      engine().run(idempotencyDiscard, key, { ...notice, token, retention: HOUR, hasRun });

    expect(await begin('a')).toMatchObject({ outcome: 'started', attempt: 1 });
    expect(await begin('b')).toMatchObject({ outcome: 'running', attempt: 1, leftMs: 1_000 });
    expect(await begin('b', Buffer.alloc(32, 8))).toMatchObject({ outcome: 'mismatch' });
    later(1_000);
    expect(await renew('a', 1), 'no other attempt has started').toBe(true);
    later(1_000);
    expect(await begin('b', Buffer.alloc(32, 8)), 'a crash keeps it').toMatchObject({ outcome: 'mismatch' });
    expect(await begin('b')).toMatchObject({ outcome: 'recovered', attempt: 2 });
    expect(await renew('a', 1)).toBe(false);
    expect(await complete('a', 1, Buffer.from('late'))).toBe(false);
    expect(await discard('a')).toBe(false);
    expect(await discard('b')).toBe(true);
    expect(await begin('c')).toMatchObject({ outcome: 'started', attempt: 3 });
    expect(await discard('c', false), 'it never ran').toBe(true);
    expect(await begin('d')).toMatchObject({ outcome: 'started', attempt: 3 });
    await engine().delete(key);
    expect(await renew('d', 3), 'the store has lost it').toBe(true);
    expect(await begin('e')).toMatchObject({ outcome: 'running', attempt: 3 });
    const response = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    expect(await complete('d', 3, response)).toBe(true);
    expect(await complete('d', 3, response), 'its reply was lost').toBe(true);
    later(HOUR - 1);
    expect(await begin('e')).toMatchObject({ outcome: 'done', attempt: 3, response });
    later(1);
    expect(await begin('e')).toMatchObject({ outcome: 'started', attempt: 1 });
    expect(await complete('e', 1, undefined)).toBe(true);
    expect(await begin('f')).toMatchObject({ outcome: 'unkept', response: null });
  });

  fresh('slots are granted up to the limit, and a released slot goes to the first waiter', async () => {
    const { slots, line } = keys().concurrency('ann', 'reports');
    const asked = { process: 'P', channels: 'calls:', limit: 2 };
    const acquire = (token: string, waitMs = 0) => {
      const args = { ...asked, token, waitMs, lease: HOUR, maxQueue: 1 };
      return engine().run(concurrencyAcquire, [slots, line], args);
    };
    const release = (token: string, waitMs = 0) =>
      engine().run(concurrencyRelease, [slots, line], { ...asked, token, waitMs });
    expect(await acquire('ann')).toEqual({ found: 'fine', outcome: 'granted', running: 1, leftMs: HOUR });
    expect(await acquire('ann'), 'again').toMatchObject({ outcome: 'granted', running: 1 });
    expect(await acquire('bob')).toMatchObject({ outcome: 'granted', running: 2 });
    expect(await acquire('eve')).toMatchObject({ outcome: 'refused', running: 2 });
    expect(await acquire('joe', HOUR)).toMatchObject({ outcome: 'waits', running: 2 });
    expect(await acquire('eve', HOUR), 'the line is full').toMatchObject({ outcome: 'refused' });
    expect(await release('ann')).toBe(true);
    expect(await release('ann')).toBe(false);
    expect(await acquire('eve'), 'it is kept for who waits').toMatchObject({ outcome: 'refused' });
    expect(await acquire('joe', HOUR)).toMatchObject({ outcome: 'granted', running: 2 });
    later(HOUR - 1);
    await engine().run(concurrencyRenew, [slots, line], {
      ...asked,
      token: 'joe',
      lease: HOUR,
    });
    later(1);
    expect(await acquire('eve'), 'the slot of bob has ended').toMatchObject({
      outcome: 'granted',
      running: 2,
    });
    expect([await release('joe', HOUR), await release('eve'), await release('bob')]).toEqual([
      true,
      true,
      false,
    ]);
  });

  fresh(
    'a log keeps its newest entries, in the order of their cursors, even if the clock goes back',
    async () => {
      const key = [keys().log('chat', 'ann')];
      const append = async (text: string, limit = 3) =>
        (await engine().run(logAppend, key, { limit, ttlMs: HOUR, text })).cursor;
      const read = async (after: string | undefined, count: number) =>
        (await engine().run(logRead, key, { after, count })).entries.map(({ text }) => text);
      expect(await read(undefined, 10)).toEqual([]);
      const first = await append('1');
      expect(first).toBe(`${both.clock.time}-0`);
      expect(await append('2')).toBe(`${both.clock.time}-1`);
      later(-HOUR);
      const third = await append('3');
      expect(third).toBe(`${both.clock.time + HOUR}-2`);
      await append('4');
      expect(await read(undefined, 10)).toEqual(['2', '3', '4']);
      expect(await read(undefined, 2)).toEqual(['3', '4']);
      expect(await read(first, 2)).toEqual(['2', '3']);
      expect(await read(third, 2)).toEqual(['4']);
      await append('5', 1);
      expect(await read('0-0', 10)).toEqual(['5']);
      await engine().run(logClear, key, undefined);
      expect(await read('0-0', 10)).toEqual([]);
      expect(await append('6'), 'cursors do not begin again').toBe(`${both.clock.time + HOUR}-5`);
      expect(await read(third, 10)).toEqual(['6']);
    },
  );

  fresh('the fields of a scope are set, counted and deleted one by one', async () => {
    const key = [keys().state('user', 'ann')];
    const bounds = { ttl: HOUR, maxFields: 3 };
    const set = (...values: [string, string][]) => engine().run(stateSet, key, { ...bounds, values });
    const add = (field: string, by: number) => engine().run(stateIncrement, key, { ...bounds, field, by });
    expect(await set(['a', '1'], ['b', '"ä"'])).toEqual({ found: 'fine', isWritten: true });
    expect(await add('a', 4)).toMatchObject({ outcome: 'written', value: 5 });
    expect(await add('b', 1)).toMatchObject({ outcome: 'no-integer' });
    expect(await add('a', Number.MAX_SAFE_INTEGER)).toMatchObject({ outcome: 'unsafe' });
    expect(await add('c', -2)).toMatchObject({ outcome: 'written', value: -2 });
    expect(await add('d', 1)).toMatchObject({ outcome: 'too-many' });
    expect(await set(['c', '7'], ['d', '8'])).toMatchObject({ isWritten: false });
    expect(await engine().run(stateGet, key, { touch: 0, field: 'c' })).toEqual({
      found: 'fine',
      json: '-2',
    });
    expect(await engine().run(stateDelete, key, { ...bounds, fields: ['a', 'c', 'd'] })).toMatchObject({
      count: 2,
    });
    const { entries } = await engine().run(stateAll, key, { touch: 0 });
    expect(entries).toEqual([['b', '"ä"']]);
  });

  fresh('a document is replaced only at the expected revision', async () => {
    const key = [keys().document('drafts', 'one')];
    const read = () => engine().run(documentRead, key, undefined);
    const write = (expected: string, document: string) =>
      engine().run(documentWrite, key, { expected, ttl: HOUR, document });
    expect(await read()).toEqual({ found: 'fine', revision: '', json: null });
    expect(await write('r1', packDocument('r2', '1'))).toMatchObject({ isDone: false });
    expect(await write('', packDocument('r1', '1'))).toMatchObject({ isDone: true });
    expect(await write('', packDocument('r2', '2'))).toMatchObject({ isDone: false });
    expect(await write('r1', packDocument('r2', '"ä"'))).toMatchObject({ isDone: true });
    expect(await write('r1', packDocument('r3', '3'))).toMatchObject({ isDone: false });
    expect(await read()).toEqual({ found: 'fine', revision: 'r2', json: '"ä"' });
    expect(await write('r1', '')).toMatchObject({ isDone: false });
    expect(await write(ANY_REVISION, '')).toMatchObject({ isDone: true });
    expect(await write(ANY_REVISION, '')).toMatchObject({ isDone: false });
  });

  fresh('a member expires by itself, and the others are listed in the order of their bytes', async () => {
    const { members, expiries } = keys().members('followers', 'ann');
    const both = [members, expiries];
    const add = (member: string, ttl: number) => engine().run(membersAdd, both, { member, ttl });
    const has = (member: string) => engine().run(membersHas, both, { member });
    const list = (after: string, limit: number) => engine().run(membersList, both, { after, limit });
    for (const member of ['\u{1f600}', 'c', 'a', 'b', '\uffff']) {
      expect(await add(member, member === 'b' ? HOUR : 2 * HOUR)).toMatchObject({ had: false });
    }
    expect(await add('a', 2 * HOUR)).toMatchObject({ had: true });
    later(HOUR);
    expect(await has('b')).toMatchObject({ had: false });
    expect(await has('a')).toMatchObject({ had: true });
    expect(await engine().run(membersSize, both, undefined)).toMatchObject({ size: 4 });
    expect(await list('', 2)).toMatchObject({ members: ['a', 'c'], next: 'c' });
    expect(await engine().run(membersRemove, both, { member: 'c' })).toMatchObject({ had: true });
    expect(await list('c', 2)).toMatchObject({ members: ['\uffff', '\u{1f600}'], next: '' });
    expect(await engine().run(membersRemove, both, { member: 'b' })).toMatchObject({ had: false });
    expect(await add('b', HOUR)).toMatchObject({ had: false });
    later(HOUR);
    expect(await engine().run(membersSize, both, undefined)).toMatchObject({ size: 0 });
  });

  fresh('delete() deletes the given keys and returns how many existed', async () => {
    const count = (id: string, policy: string) =>
      engine().run(fixedWindow, [keys().rate(id, policy)], { delta: 1, window: HOUR });
    await Promise.all([count('ann', 'p'), count('ann', 'q'), count('bob', 'p'), count('bob', 'q')]);
    expect(
      await engine().delete([keys().rate('ann', 'p'), keys().rate('ann', 'q'), keys().rate('ann', 'r')]),
    ).toBe(2);
    const found = [];
    for await (const page of engine().scan(keys().ratePattern('q'))) found.push(...page);
    expect(found).toEqual([keys().rate('bob', 'q')]);
    expect(await count('bob', 'p')).toMatchObject({ hits: 2 });
    expect(await count('bob', 'q')).toMatchObject({ hits: 2 });
  });
});
