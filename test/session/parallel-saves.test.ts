import { createCipheriv, randomBytes, randomUUID } from 'node:crypto';
import type { SessionData } from 'express-session';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { Emitter } from '../../src/base/emitter.ts';
import type { KitEvents } from '../../src/base/events.ts';
import { Keys } from '../../src/base/keys.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { Reporter } from '../../src/base/reporter.ts';
import type { Engine } from '../../src/engine/port.ts';
import { SessionContent } from '../../src/session/content.ts';
import { PLAIN, packData } from '../../src/session/operations/data.ts';
import { packSession, unpackSession } from '../../src/session/operations/format.ts';
import type { SessionPayload } from '../../src/session/payload.ts';
import type { RecordSettings } from '../../src/session/record-settings.ts';
import { aesSeal, noSeal } from '../../src/session/seal.ts';
import { SessionRecords, type StoredSession } from '../../src/session/session-records.ts';
import { type BothEngines, startBothEngines } from '../support/both-engines.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { startProgram } from '../support/program.ts';
import { startRedis } from '../support/servers.ts';
import { countCommands } from '../support/wire.ts';

const HOUR = 3_600_000;

const SETTINGS: RecordSettings = {
  idle: HOUR,
  followsCookie: true,
  cookieMaxAge: undefined,
  absolute: 0,
  touchAfter: 60_000,
  conflicts: 'merge',
  maxPerUser: undefined,
  maxBytes: 2 ** 20,
  seal: noSeal,
};

const COOKIE = { originalMaxAge: null, path: '/' };

/** A session with this data, as a request saves it. */
function payloadWith(data: object, cookie: SessionPayload['meta']['cookie'] = COOKIE): SessionPayload {
  const { userId } = data as { userId?: string };
  return { meta: { cookie }, content: SessionContent.of(data), userId };
}

function dataIn(stored: SessionPayload | undefined): Record<string, unknown> {
  return { ...stored?.content.values };
}

/** Sessions in a key space of their own. */
class Sessions {
  readonly keys: Keys;
  readonly id: string = randomUUID();
  readonly #engine: Engine;

  constructor(engine: Engine, prefix: string) {
    this.#engine = engine;
    this.keys = new Keys(prefix);
  }

  with(settings: Partial<RecordSettings> = {}): SessionRecords {
    const reporter = new Reporter(new Emitter<KitEvents>(silentLogger), silentLogger);
    return new SessionRecords(
      { engine: this.#engine, keys: this.keys, reporter },
      { ...SETTINGS, ...settings },
    );
  }

  get key(): string {
    return this.keys.session(this.id);
  }
}

/** Throws for a session that is not stored. */
async function loaded(records: SessionRecords, id: string): Promise<StoredSession> {
  const stored = await records.load(id);
  if (stored === undefined) throw new Error('the session is not stored');
  return stored;
}

let both: BothEngines;

beforeAll(async () => {
  both = await startBothEngines();
});

afterAll(() => both.stop());

describe.each(['memory', 'redis'] as const)('parallel saves of one session (%s)', (engine) => {
  function start(): Sessions {
    const sessions = new Sessions(both[engine], `${both.prefix}:${randomUUID().slice(0, 8)}`);
    onTestFinished(async () => void (await both.client.del(sessions.key)));
    return sessions;
  }

  async function startWith(data: object, settings: Partial<RecordSettings> = {}) {
    const sessions = start();
    const records = sessions.with(settings);
    await records.create(sessions.id, payloadWith(data));
    return { sessions, records, id: sessions.id, stored: await loaded(records, sessions.id) };
  }

  async function storedValue({ key }: Sessions): Promise<Buffer> {
    const bytes = both.client.withTypeMapping({ 36: Buffer });
    const value = engine === 'memory' ? both.keyspace.get(key) : await bytes.get(key);
    if (!Buffer.isBuffer(value)) throw new Error('the session is not stored');
    return value;
  }

  async function store({ key }: Sessions, value: Buffer): Promise<void> {
    if (engine === 'memory') both.keyspace.set(key, value, HOUR);
    else await both.client.set(key, value, { PX: HOUR });
  }

  it.each([
    ['plain', {}],
    ['encrypted', { seal: aesSeal([randomBytes(32), randomBytes(32)]) }],
  ])('1,000 parallel saves of different keys are all kept: %s', async (_, settings) => {
    const { records, id, stored } = await startWith({ first: 1 }, settings);
    const numbers = Array.from({ length: 1_000 }, (__, index) => index);
    await Promise.all(
      numbers.map((number) => records.update(stored, payloadWith({ first: 1, [`k${number}`]: number }))),
    );
    const expected = Object.fromEntries(numbers.map((number) => [`k${number}`, number]));
    expect(dataIn(await records.load(id))).toEqual({ first: 1, ...expected });
  });

  it('of 1,000 parallel saves of one key, the last is kept, and other keys keep their values', async () => {
    const { records, id, stored } = await startWith({ first: 1, last: 'x' });
    const numbers = Array.from({ length: 1_000 }, (_, index) => index);
    await Promise.all(
      numbers.map((n) => records.update(stored, payloadWith({ first: 1, last: 'x', n: { n } }))),
    );
    expect(dataIn(await records.load(id))).toEqual({ first: 1, last: 'x', n: { n: 999 } });
  });

  it('parallel saves that add, change and delete keys are all applied', async () => {
    const { records, id, stored } = await startWith({ a: 1, b: 2, c: 3, d: 4 });
    await Promise.all(
      [
        { b: 2, c: 3, d: 4 },
        { a: 1, b: 20, c: 3, d: 4 },
        { a: 1, b: 2, c: 3, d: 4, e: 5 },
        { a: 1, b: 2, c: 3 },
      ].map((data) => records.update(stored, payloadWith(data))),
    );
    expect(dataIn(await records.load(id))).toEqual({ b: 20, c: 3, e: 5 });
  });

  it('a session that loses all keys in parallel saves is empty, and takes new keys', async () => {
    const { records, id, stored } = await startWith({ a: 1, b: 2 });
    await Promise.all([{ b: 2 }, { a: 1 }].map((data) => records.update(stored, payloadWith(data))));
    const empty = await loaded(records, id);
    expect(dataIn(empty)).toEqual({});
    await records.update(empty, payloadWith({ c: 3 }));
    expect(dataIn(await records.load(id))).toEqual({ c: 3 });
  });

  it('no save brings a destroyed session back', async () => {
    const { records, id, stored } = await startWith({ a: 1 });
    const saves = Array.from({ length: 20 }, (_, n) => records.update(stored, payloadWith({ a: 1, n })));
    await records.destroy(id, stored);
    const late = Array.from({ length: 20 }, (_, n) => records.update(stored, payloadWith({ a: 1, n })));
    await Promise.all(saves);
    expect(await Promise.all(late)).toEqual(late.map(() => undefined));
    expect(await records.load(id)).toBeUndefined();
  });

  it('the last save replaces all keys with `conflicts: "last-write"`, in the order of its own keys', async () => {
    const { records, id, stored } = await startWith({ a: 1, b: 2 }, { conflicts: 'last-write' });
    await Promise.all(
      [
        { a: 1, c: 3 },
        { d: 4, b: 2 },
      ].map((data) => records.update(stored, payloadWith(data))),
    );
    expect(JSON.stringify(dataIn(await records.load(id)))).toBe('{"d":4,"b":2}');
  });

  it('a save that changes data keeps the cookie, and with it the idle time, that another request has set', async () => {
    const { records, id, stored } = await startWith({ a: 1 });
    const long = { originalMaxAge: 5 * HOUR, expires: '2030-01-01T00:00:00.000Z', path: '/' };
    await records.update(stored, payloadWith({ a: 1 }, long));
    await records.update(stored, payloadWith({ a: 2 }));
    const merged = await loaded(records, id);
    expect([merged.meta.cookie, merged.idle, dataIn(merged)]).toEqual([long, 5 * HOUR, { a: 2 }]);
  });

  it('a save with the idle time of a changed setting sets it if no other request has changed the cookie', async () => {
    const { sessions, id, stored } = await startWith({ a: 1 });
    const records = sessions.with({ idle: 2 * HOUR });
    await records.update(stored, payloadWith({ a: 2 }));
    expect((await loaded(records, id)).idle).toBe(2 * HOUR);
  });

  it('the device of a new user and the cookie of another request are both kept', async () => {
    const { records, id, stored } = await startWith({ a: 1 });
    const cookie = { ...COOKIE, originalMaxAge: 5 * HOUR };
    const device = {
      ...payloadWith({ a: 1, userId: 'ann' }),
      meta: { cookie: COOKIE, ip: '::1', userAgent: 'x' },
    };
    await records.update(stored, device);
    await records.update(stored, payloadWith({ a: 1 }, cookie));
    expect((await loaded(records, id)).meta).toEqual({ cookie, ip: '::1', userAgent: 'x' });
  });

  it('of two requests that change the user, the last wins, and only its user lists the session', async () => {
    const { sessions, records, id, stored } = await startWith({ a: 1 });
    const [ann, bob, eve] = ['ann', 'bob', 'eve'].map((user) => sessions.keys.sessionOwner(user));
    onTestFinished(async () => {
      for (const owner of [ann, bob, eve]) await both.client.del(sessions.keys.userSessions(owner ?? ''));
    });
    const first = await records.update(stored, payloadWith({ a: 1, userId: 'ann' }));
    expect(first?.owner).toBe(ann);
    const base = await loaded(records, id);
    const saved = await Promise.all([
      records.update(base, payloadWith({ a: 1, userId: 'bob' })),
      records.update(base, payloadWith({ a: 1, userId: 'eve' })),
      records.update(base, payloadWith({ a: 2, userId: 'ann' })),
    ]);
    expect(saved.map((each) => each?.owner)).toEqual([bob, eve, eve]);
    const merged = await loaded(records, id);
    expect([dataIn(merged), merged.userId, merged.owner]).toEqual([{ a: 2, userId: 'eve' }, 'eve', eve]);
  });

  describe('with maxBytes', () => {
    it.each([
      ['plain', noSeal],
      ['encrypted', aesSeal([randomBytes(32)])],
    ])(
      'saves that exceed the limit together are refused one by one, and the others are kept: %s',
      async (_, seal) => {
        const { records, id, stored } = await startWith({ a: 1 }, { seal, maxBytes: 5_000 });
        const results = await Promise.allSettled(
          Array.from({ length: 20 }, (__, n) =>
            records.update(stored, payloadWith({ a: 1, [`k${n}`]: 'x'.repeat(900) })),
          ),
        );
        const kept = results.map(({ status }) => status === 'fulfilled');
        expect(kept).toEqual(results.map((__, n) => n < 5));
        expect(results[19]).toMatchObject({
          reason: {
            code: 'ERR_REDIS_KIT_SESSION_DATA',
            message: expect.stringMatching(/takes 5\d{3} bytes, more than `maxBytes` \(5000\)/),
          },
        });
        const merged = await loaded(records, id);
        expect(Object.keys(dataIn(merged))).toEqual(['a', 'k0', 'k1', 'k2', 'k3', 'k4']);
        // A request that makes a value smaller frees space for others.
        await records.update(merged, payloadWith({ ...dataIn(merged), k0: '' }));
        await records.update(merged, payloadWith({ ...dataIn(merged), k5: 'x'.repeat(900) }));
        expect(dataIn(await records.load(id))).toMatchObject({ k0: '', k5: 'x'.repeat(900) });
      },
    );
  });

  describe('keys of any name', () => {
    const NAMES = [
      '__proto__',
      '',
      'constructor',
      '1',
      '-1',
      '1.5',
      '"',
      'a"',
      'a":1,',
      '\\',
      'a\\"',
      '\n',
      '\n"a":',
    ];
    const UNICODE = ['ä', '\u{1f600}', '\ud800', '\udc00', '\u2028', '\0', '\u007f', 'a\u0301', '\ufeff'];
    const seals = [noSeal, aesSeal([randomBytes(32)])];

    it.each(seals.map((seal, at) => [at === 0 ? 'plain' : 'encrypted', seal] as const))(
      'each of these keys can be set, changed and deleted beside the others: %s',
      async (_, seal) => {
        const { records, id, stored } = await startWith({ a: 0 }, { seal });
        const model = new Map<string, unknown>([['a', 0]]);
        const save = async (base: StoredSession, name: string, value: unknown) => {
          const mine = new Map(Object.entries(dataIn(base)));
          if (value === undefined) mine.delete(name);
          else mine.set(name, value);
          await records.update(base, { ...base, content: SessionContent.of(Object.fromEntries(mine)) });
          if (value === undefined) model.delete(name);
          else model.set(name, value);
        };
        const names = [...NAMES, ...UNICODE];
        await Promise.all(names.map((name) => save(stored, name, { name })));
        const base = await loaded(records, id);
        expect(dataIn(base)).toEqual(Object.fromEntries(model));
        await Promise.all(
          names.map((name, at) => save(base, name, at % 2 === 0 ? undefined : `new ${name}`)),
        );
        expect(dataIn(await loaded(records, id))).toEqual(Object.fromEntries(model));
        expect(Reflect.get({}, 'name')).toBeUndefined();
      },
    );

    it.each(seals.map((seal, at) => [at === 0 ? 'plain' : 'encrypted', seal] as const))(
      'a session with 10,000 keys is saved, changed in a few keys and changed in all keys: %s',
      async (_, seal) => {
        const numbers = Array.from({ length: 10_000 }, (__, n) => n);
        const all = (value: (n: number) => unknown) =>
          Object.fromEntries(numbers.map((n) => [`key ${n}`, value(n)]));
        const { records, id, stored } = await startWith({ other: 1 }, { seal, maxBytes: 2 ** 24 });
        await records.update(stored, payloadWith({ other: 1, ...all((n) => n) }));
        const base = await loaded(records, id);
        await records.update(stored, payloadWith({ other: 2 }));
        await records.update(base, payloadWith({ ...dataIn(base), 'key 5000': 'one' }));
        expect(dataIn(await records.load(id))).toEqual({ other: 2, ...all((n) => n), 'key 5000': 'one' });
        await records.update(base, payloadWith({ other: 1, ...all((n) => (n % 3 === 0 ? undefined : [n])) }));
        const data = dataIn(await records.load(id));
        expect([Object.keys(data).length, data.other, data['key 5000'], data['key 3']]).toEqual([
          6_667,
          2,
          [5_000],
          undefined,
        ]);
      },
    );

    it('a changed value keeps the place of its key, and new keys come last in the order of the saves', async () => {
      const { records, id, stored } = await startWith({ b: 1, a: 1, c: 1 });
      await records.update(stored, payloadWith({ b: 1, a: 2, c: 1, z: 1 }));
      await records.update(stored, payloadWith({ b: 1, a: 1, c: 1, y: 1, 10: 1, 9: 1 }));
      expect(JSON.stringify(dataIn(await loaded(records, id)))).toBe(
        '{"9":1,"10":1,"b":1,"a":2,"c":1,"z":1,"y":1}',
      );
    });
  });

  it('random saves from random earlier versions give the session of a model', async () => {
    const name = fc.constantFrom('a', 'b', 'c', '1', '__proto__', 'a"', '');
    const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constant(undefined));
    const step = fc.record({
      base: fc.nat(3),
      changes: fc.uniqueArray(fc.tuple(name, value), { selector: ([each]) => each, maxLength: 12 }),
    });
    const seal = fc.constantFrom(noSeal, aesSeal([randomBytes(32)]));
    await fc.assert(
      fc.asyncProperty(seal, fc.array(step, { minLength: 1, maxLength: 12 }), async (each, steps) => {
        const { records, id, stored } = await startWith({ a: 0, b: 0 }, { seal: each });
        const model = new Map<string, unknown>(Object.entries({ a: 0, b: 0 }));
        const versions = [stored];
        for (const { base, changes } of steps) {
          const from = versions.at(-1 - (base % versions.length)) ?? stored;
          const before = new Map(Object.entries(dataIn(from)));
          const mine = new Map(before);
          for (const [key, wanted] of changes) {
            if (wanted === undefined) mine.delete(key);
            else mine.set(key, wanted);
            if (JSON.stringify(wanted) === JSON.stringify(before.get(key))) continue;
            if (wanted === undefined) model.delete(key);
            else model.set(key, wanted);
          }
          await records.update(from, { ...from, content: SessionContent.of(Object.fromEntries(mine)) });
          versions.push(await loaded(records, id));
        }
        expect(dataIn(versions.at(-1))).toEqual(JSON.parse(JSON.stringify(Object.fromEntries(model))));
        await records.destroy(id);
      }),
      { numRuns: 60 },
    );
  });

  describe('after a corruption', () => {
    it.each([
      ['plain', noSeal],
      ['encrypted', aesSeal([randomBytes(32)])],
    ])('a truncated value counts as absent, and a save to it does not fail: %s', async (_, seal) => {
      const data = { a: { b: 1 }, c: [{}], d: 'x' };
      const { sessions, records, id, stored } = await startWith(data, { seal });
      const value = await storedValue(sessions);
      for (let length = 0; length < value.length; length++) {
        await store(sessions, value.subarray(0, length));
        expect(await records.load(id), `${length} bytes`).toBeUndefined();
        if (length % 5 !== 0) continue;
        const saved = await records.update(stored, payloadWith({ ...data, d: 'y' }));
        const after = await records.load(id);
        if (after !== undefined)
          expect([saved?.content, dataIn(after)]).toEqual([after.content, { ...data, d: 'y' }]);
      }
    });
  });

  describe('beside processes with version 0.1.0', () => {
    /** The data of a session as version 0.1.0 packs it: JSON in one line. */
    function oldData(data: object): Buffer {
      return packData(PLAIN, 0, { meta: JSON.stringify({ cookie: COOKIE }), content: JSON.stringify(data) });
    }

    /** Saves data as version 0.1.0 does after a load of the session. */
    async function saveByOldVersion(sessions: Sessions, data: Buffer): Promise<void> {
      const { record } = unpackSession(await storedValue(sessions), both.clock.time);
      if (record === undefined) throw new Error('the session is not stored');
      await store(sessions, packSession({ ...record, revision: record.revision + 1, data }));
    }

    it('a session of the old version is loaded, and stored in lines by the next save', async () => {
      const { sessions, records, id } = await startWith({});
      await saveByOldVersion(sessions, oldData({ a: 1, b: [2] }));
      const stored = await loaded(records, id);
      expect([dataIn(stored), stored.isCurrent]).toEqual([{ a: 1, b: [2] }, false]);
      await records.update(stored, payloadWith({ a: 1, b: [3] }));
      const after = await loaded(records, id);
      expect([dataIn(after), after.isCurrent]).toEqual([{ a: 1, b: [3] }, true]);
    });

    it('parallel saves after a load of a session of the old version are all kept', async () => {
      const { sessions, records, id } = await startWith({});
      await saveByOldVersion(sessions, oldData({ a: 1 }));
      const stored = await loaded(records, id);
      const numbers = Array.from({ length: 100 }, (_, n) => n);
      await Promise.all(numbers.map((n) => records.update(stored, payloadWith({ a: 1, [`k${n}`]: n }))));
      const expected = Object.fromEntries(numbers.map((n) => [`k${n}`, n]));
      expect(dataIn(await records.load(id))).toEqual({ a: 1, ...expected });
    });

    it('a save keeps what a process of the old version has saved since the load', async () => {
      const { sessions, records, id, stored } = await startWith({ a: 1, b: 1 });
      await saveByOldVersion(sessions, oldData({ a: 2, b: 1, c: 3 }));
      await records.update(stored, payloadWith({ a: 1, b: 2 }));
      expect(dataIn(await records.load(id))).toEqual({ a: 2, b: 2, c: 3 });
      const base = await loaded(records, id);
      await saveByOldVersion(sessions, oldData({ a: 2, b: 2, d: 4 }));
      const old = await loaded(records, id);
      await saveByOldVersion(sessions, oldData({ a: 2, b: 2, d: 4, e: 5 }));
      await Promise.all([
        records.update(base, payloadWith({ a: 3, b: 2, c: 3 })),
        records.update(old, payloadWith({ a: 2, d: 4 })),
      ]);
      expect(dataIn(await records.load(id))).toEqual({ a: 3, d: 4, e: 5 });
    });

    it('the stored text of a plain session is JSON, which the old version can read', async () => {
      const { sessions, records, stored } = await startWith({ a: 1, 'b"': 2 });
      await records.update(stored, payloadWith({ a: [1], 'b"': 2 }));
      const value = await storedValue(sessions);
      const data = value.subarray(37);
      expect([value[1], data[0]]).toEqual([1, 0]);
      const contentAt = 5 + data.readUInt32BE(1);
      expect(JSON.parse(data.toString('utf8', 5, contentAt))).toEqual({ cookie: COOKIE });
      expect(JSON.parse(data.toString('utf8', contentAt))).toEqual({ a: [1], 'b"': 2 });
    });

    it('an encrypted session of the old version is loaded, and stored key by key by the next save', async () => {
      const key = randomBytes(32);
      const { sessions, records, id } = await startWith({}, { seal: aesSeal([randomBytes(32), key]) });
      const { handle } = sessions.keys.sessionNames(id);
      const nonce = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(handle));
      const text = Buffer.concat([cipher.update(oldData({ a: 1, b: 2 }).subarray(1)), cipher.final()]);
      await saveByOldVersion(sessions, Buffer.concat([Buffer.of(1), nonce, cipher.getAuthTag(), text]));
      const stored = await loaded(records, id);
      expect([dataIn(stored), stored.isCurrent]).toEqual([{ a: 1, b: 2 }, false]);
      await Promise.all([
        records.update(stored, payloadWith({ a: 1, b: 3 })),
        records.update(stored, payloadWith({ a: 4, b: 2 })),
      ]);
      const after = await loaded(records, id);
      expect([dataIn(after), after.isCurrent]).toEqual([{ a: 4, b: 3 }, true]);
      // The old version reads no value of version 2, and so does not count it as corrupt.
      expect((await storedValue(sessions))[1]).toBe(2);
    });
  });

  describe('with a new encryption key', () => {
    const [OLD, NEW] = [randomBytes(32), randomBytes(32)] as const;

    it('the first save with a new first key encrypts all keys again', async () => {
      const { sessions, id } = await startWith({ a: 1, b: 2 }, { seal: aesSeal([OLD]) });
      const records = sessions.with({ seal: aesSeal([NEW, OLD]) });
      const stored = await loaded(records, id);
      expect(stored.isCurrent).toBe(false);
      await records.update(stored, payloadWith({ a: 1, b: 3 }));
      expect(dataIn(await sessions.with({ seal: aesSeal([NEW]) }).load(id))).toEqual({ a: 1, b: 3 });
    });

    it('the saves of processes with different first keys are all kept, and the last save of a key wins', async () => {
      const { sessions, id } = await startWith({ a: 0, b: 0 }, { seal: aesSeal([OLD, NEW]) });
      const [old, next] = [
        [OLD, NEW],
        [NEW, OLD],
      ].map((keys) => sessions.with({ seal: aesSeal(keys) })) as [SessionRecords, SessionRecords];
      const bases = [await loaded(old, id), await loaded(next, id)] as const;
      await old.update(bases[0], payloadWith({ a: 1, b: 0 }));
      await next.update(bases[1], payloadWith({ a: 2, b: 0 }));
      await old.update(bases[0], payloadWith({ a: 0, b: 3 }));
      await next.update(bases[1], payloadWith({ a: 0, b: 0, c: 4 }));
      await old.update(bases[0], payloadWith({ a: 0, b: 0, c: 5 }));
      for (const records of [old, next]) {
        expect(dataIn(await records.load(id))).toEqual({ a: 2, b: 3, c: 5 });
      }
      await old.update(bases[0], payloadWith({ a: 6, b: 0 }));
      expect(dataIn(await next.load(id))).toEqual({ a: 6, b: 3, c: 5 });
    });
  });

  it('a read without side effects says that a move of the idle deadline is due, and moves nothing', async () => {
    const { sessions, records, id } = await startWith({ a: 1 });
    const names = sessions.keys.sessionNames(id);
    expect((await records.read(names, false))?.isTouchDue).toBe(false);
    both.clock.time += 60_000;
    for (let time = 0; time < 2; time++) expect((await records.read(names, false))?.isTouchDue).toBe(true);
    const moved = await records.read(names, true);
    expect([moved?.isTouchDue, dataIn(moved?.parse())]).toEqual([true, { a: 1 }]);
    expect((await records.read(names, false))?.isTouchDue).toBe(false);
    both.clock.time += HOUR;
    expect(await records.read(names, false)).toBeUndefined();
  });
});

describeWithServers('the commands of parallel saves of one session', () => {
  it.each([
    ['plain', noSeal],
    ['encrypted', aesSeal([randomBytes(32)])],
  ])('1,000 parallel saves are 1,000 commands: %s', async (_, seal) => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const own = await startBothEngines(server.url);
    onTestFinished(() => own.stop());
    const sessions = new Sessions(own.redis, own.prefix);
    const records = sessions.with({ seal });
    await records.create(sessions.id, payloadWith({ a: 1 }));
    const stored = await loaded(records, sessions.id);
    const commands = await countCommands(server.url, () =>
      Promise.all(
        Array.from({ length: 1_000 }, (__, n) =>
          records.update(stored, payloadWith({ a: 1, [`k${n % 20}`]: n })),
        ),
      ),
    );
    expect(commands.map(([name]) => name)).toEqual(Array.from({ length: 1_000 }, () => 'EVALSHA'));
    expect(Object.keys(dataIn(await records.load(sessions.id)))).toHaveLength(21);
  });

  it('the saves of four processes are all kept', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url, prefix: 't-processes' });
    const store = kit.sessionStore();
    await store.set('one', { cookie: COOKIE, first: 1 } as unknown as SessionData);
    const programs = [0, 1, 2, 3].map((worker) =>
      startProgram(`
        const kit = createRedisKit({ url: '${server.url}', prefix: 't-processes', commandTimeout: '1m' });
        await kit.ready();
        const store = kit.sessionStore();
        const session = await store.get('one');
        await kit.client.incr('loaded');
        while (Number(await kit.client.get('loaded')) < 4) await new Promise((resolve) => setTimeout(resolve, 5));
        const saves = Array.from({ length: 250 }, (_, n) => {
          session['w${worker}-' + n] = n;
          session.shared = ${worker};
          return store.set('one', session);
        });
        await Promise.all(saves);
        await kit.close();
      `),
    );
    for (const { ended } of programs) expect(await ended).toEqual({ code: 0, said: '' });
    const {
      cookie: _,
      first,
      shared,
      ...others
    } = { ...(await store.get('one')) } as Record<string, unknown>;
    expect([first, [0, 1, 2, 3].includes(Number(shared))]).toEqual([1, true]);
    const names = [0, 1, 2, 3].flatMap((worker) => Array.from({ length: 250 }, (__, n) => `w${worker}-${n}`));
    expect(Object.keys(others).toSorted()).toEqual(names.toSorted());
  });
});
