import express, { type Request, type RequestHandler } from 'express';
import { describe, expect, it } from 'vitest';
import type { RedisKit, RequestState, StateOptions } from '../../src/index.ts';
import { redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, stopClock } from '../support/time.ts';
import { send, serve } from '../support/web.ts';

const DAY = { ttl: '1d' } as const;

const userOf = (req: Request) => req.get('x-user') ?? null;

/** Serves a handler below middleware, and returns a function that sends a request and parses the JSON of the response. */
async function site(middleware: readonly unknown[], handler: (req: Request) => unknown) {
  const app = express().set('env', 'test');
  app.use(...(middleware as RequestHandler[]));
  app.use(async (req, res) => void res.json((await handler(req)) ?? null));
  const failed: express.ErrorRequestHandler = (error, _req, res, _next) => {
    res.status(error.status ?? 500).json({ code: error.code, message: error.message });
  };
  app.use(failed);
  const address = await serve(app);
  return async (headers: Readonly<Record<string, string>> = {}) => {
    const { text, headers: received } = await send(address, { headers });
    return { json: JSON.parse(text), cookie: String(received['set-cookie']?.[0]?.split(';')[0] ?? '') };
  };
}

onEveryStore('The state of the app, of users and of sessions', (makeKit) => {
  it('req.state has the fields of the app, of the user and of the session, apart from each other', async () => {
    const kit = makeKit();
    const sessionOf = (req: Request) => req.get('x-session') ?? '';
    const state = kit.state({ app: DAY, user: { id: userOf, ...DAY }, session: { id: sessionOf, ...DAY } });
    const ask = await site([state], async ({ state }) => {
      const scopes = [state.app, state.user, state.session];
      return Promise.all(scopes.map((scope) => scope?.increment('visits') ?? null));
    });
    const ann = (session: string) => ask({ 'x-user': 'ann', 'x-session': session });
    expect((await ann('1')).json).toEqual([1, 1, 1]);
    expect((await ann('2')).json).toEqual([2, 2, 1]);
    expect((await ask({ 'x-user': 'bob', 'x-session': '2' })).json).toEqual([3, 1, 2]);
    expect((await ask({ 'x-session': '3' })).json).toEqual([4, null, 1]);
    // The same state without HTTP.
    expect(await state.app.get('visits')).toBe(4);
    expect(await state.user('ann').get('visits')).toBe(2);
    expect(await state.session('2').all()).toEqual({ visits: 2 });
    expect(await kit.namespace('other').state({ app: DAY }).app.all()).toEqual({});
  });

  it('a field holds any JSON value under any name', async () => {
    const { app } = makeKit().state({ app: DAY });
    const values = {
      ...{
        a: null,
        b: false,
        c: 0,
        d: '',
        e: [1, { f: 'ä\u{1f600}\ud800' }],
        '': 1,
        ' ': 2,
        '"a"': 3,
        'a:b': 4,
      },
      ...{ '\ud800': 5, '\udc00': 6, '\ufffd': 7, '"\\ud800"': 8, constructor: 9, 'é\u{1f600}': 10 },
    };
    await app.patch(JSON.parse('{"__proto__":{"polluted":true}}'));
    await app.patch(values);
    const all = await app.all();
    expect(Object.keys(all).sort()).toEqual(['__proto__', ...Object.keys(values)].sort());
    expect(Object.getOwnPropertyDescriptor(all, '__proto__')?.value).toEqual({ polluted: true });
    expect(Reflect.get(all, 'polluted')).toBeUndefined();
    for (const [field, value] of Object.entries(values)) expect(await app.get(field), field).toEqual(value);
    expect(await app.get('absent')).toBeUndefined();
    expect(await app.delete('a', '\ud800', 'absent')).toBe(2);
    expect(await app.delete()).toBe(0);
    expect(await app.get('\udc00')).toBe(6);
    await app.patch({});
    await app.clear();
    expect(await app.all()).toEqual({});
  });

  it('parallel increments are all counted, and stay exact up to the largest safe integer', async () => {
    const { app } = makeKit().state({ app: DAY });
    const sums = await Promise.all(Array.from({ length: 50 }, () => app.increment('n', 2)));
    expect(sums.sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, index) => 2 * (index + 1)));
    expect(await app.increment('n', -101)).toBe(-1);
    expect(await app.increment('n', Number.MAX_SAFE_INTEGER)).toBe(Number.MAX_SAFE_INTEGER - 1);
    expect(await app.increment('n')).toBe(Number.MAX_SAFE_INTEGER);
    expect(await app.get('n')).toBe(Number.MAX_SAFE_INTEGER);
    const refused = { code: 'ERR_REDIS_KIT_NO_INTEGER' };
    await expect(app.increment('n')).rejects.toMatchObject(refused);
    expect(await app.get('n')).toBe(Number.MAX_SAFE_INTEGER);
    for (const value of ['5', 0.5, 1e21, null, [1]]) {
      await app.set('other', value);
      await expect(app.increment('other'), String(value)).rejects.toMatchObject(refused);
      expect(await app.get('other')).toEqual(value);
    }
  });

  it('a value that is too large, and a field too many, are refused and change nothing', async () => {
    const { app } = makeKit().state({ app: DAY, maxBytes: 100, maxFields: 2 });
    const refused = { code: 'ERR_REDIS_KIT_TOO_LARGE', status: 413 };
    await app.set('a', 'x'.repeat(98));
    await expect(app.set('a', 'x'.repeat(99))).rejects.toMatchObject(refused);
    await expect(app.set('a', 'ä'.repeat(50))).rejects.toMatchObject(refused);
    await expect(app.set('x'.repeat(1_025), 1)).rejects.toMatchObject(refused);
    await expect(app.patch({ b: 1, c: 2 })).rejects.toMatchObject(refused);
    await app.patch({ a: 0, b: 1 });
    await expect(app.set('c', 2)).rejects.toMatchObject(refused);
    await expect(app.increment('c')).rejects.toMatchObject(refused);
    expect(await app.increment('b')).toBe(2);
    expect(await app.all()).toEqual({ a: 0, b: 2 });
  });

  it('the state of a session belongs to the session of kit.session, and a login begins with an empty one', async () => {
    const kit = makeKit();
    const both = [kit.session({ secret: 'a secret of the tests' }), kit.state({ session: DAY })];
    const ask = await site(both, async (req) => {
      if (req.get('x-login') !== undefined) {
        const before = req.state.session;
        await req.session.login('ann');
        if (req.get('x-login') === 'keep') await req.state.session.patch(await before.all());
      }
      return req.state.session.increment('n');
    });
    const { json, cookie } = await ask();
    expect(json).toBe(1);
    expect((await ask({ cookie })).json).toBe(2);
    expect((await ask()).json, 'another session').toBe(1);
    const second = await ask({ cookie, 'x-login': 'keep' });
    expect(second.json).toBe(3);
    expect((await ask({ cookie: second.cookie })).json).toBe(4);
    expect((await ask({ cookie: second.cookie, 'x-login': 'empty' })).json).toBe(1);
  });

  it('a visitor whose session has no other data finds the state of the session again', async () => {
    const kit = makeKit();
    const both = [kit.session({ secret: 'a secret of the tests' }), kit.state({ session: DAY })];
    const ask = await site(both, async (req) => {
      if (req.get('x-read') !== undefined)
        return [(await req.state.session.get('n')) ?? null, req.session.userId];
      return req.state.session.increment('n');
    });
    expect(await ask({ 'x-read': '1' }), 'a read needs no cookie').toEqual({
      json: [null, null],
      cookie: '',
    });
    const { json, cookie } = await ask();
    expect([json, cookie]).toEqual([1, expect.stringContaining('connect.sid=')]);
    expect(await ask({ cookie })).toEqual({ json: 2, cookie: '' });
    expect((await ask({ cookie, 'x-read': '1' })).json).toEqual([2, null]);
  });

  it('kit.cache stores no response that depends on the state of a user or a session', async () => {
    const kit = makeKit();
    const user = { id: (req: Request) => req.session.userId ?? null, ...DAY };
    const all = [
      kit.session({ secret: 'a secret of the tests' }),
      kit.state({ app: DAY, user, session: DAY }),
      kit.cache({ ttl: '1h' }),
    ];
    let runs = 0;
    const isStored = async (scope: keyof RequestState) => {
      const ask = await site(all, async ({ state }) => [await state[scope]?.get('name'), ++runs]);
      const [first, second] = [(await ask()).json, (await ask()).json];
      return first[1] === second[1];
    };
    expect([await isStored('user'), await isStored('session'), await isStored('app')]).toEqual([
      false,
      false,
      true,
    ]);
  });
});

/** Writes to all scopes, which live for 3, 2 and 1 s. */
async function writeAll(kit: RedisKit, touch: StateOptions['touch']) {
  const state = kit.state({
    ...{ app: { ttl: '3s' }, user: { id: () => null, ttl: '2s' }, session: { ttl: '1s' } },
    touch,
  });
  const scopes = [state.app, state.user('ann'), state.session('s')];
  await Promise.all(scopes.map((scope) => scope.set('a', 1)));
  return scopes;
}

describe('The lifetimes of state', () => {
  it('the app, the user and the session end after their own lifetimes', async () => {
    stopClock();
    const scopes = await writeAll(kitForTest({ url: 'memory:' }), 'write');
    const all = () => Promise.all(scopes.map((scope) => scope.get('a')));
    await passTime(999);
    expect(await all()).toEqual([1, 1, 1]);
    await passTime(1);
    expect(await all()).toEqual([1, 1, undefined]);
    await passTime(1_000);
    expect(await all()).toEqual([1, undefined, undefined]);
    await passTime(1_000);
    expect(await all()).toEqual([undefined, undefined, undefined]);
  });

  it('the lifetime of one session does not depend on that of another', async () => {
    stopClock();
    const state = kitForTest({ url: 'memory:' }).state({ session: { ttl: '1s' } });
    await state.session('first').set('a', 1);
    await passTime(600);
    await state.session('second').set('a', 2);
    await passTime(400);
    expect([await state.session('first').get('a'), await state.session('second').get('a')]).toEqual([
      undefined,
      2,
    ]);
    await state.session('first').set('a', 3);
    await passTime(600);
    expect([await state.session('first').get('a'), await state.session('second').get('a')]).toEqual([
      3,
      undefined,
    ]);
  });

  it.each([
    ['write', [undefined, {}]],
    ['read', [1, { a: 1 }]],
  ] as const)('a read restarts the lifetime only with touch: read (%s)', async (touch, expected) => {
    stopClock();
    const [, , session] = await writeAll(kitForTest({ url: 'memory:' }), touch);
    await passTime(600);
    await session?.get('another');
    await passTime(600);
    const value = await session?.get('a');
    await passTime(600);
    const all = await session?.all();
    expect([value, all]).toEqual(expected);
    await passTime(1_000);
    expect(await session?.all()).toEqual({});
  });

  it.each(['write', 'read'] as const)(
    'each write sets the TTL in Redis, and a read only with touch: read (%s)',
    async (touch) => {
      const kit = kitForTest({ url: redisUrl() });
      const { app } = kit.state({ app: { ttl: '1h' }, touch });
      const key = `${kit.prefix}:state:{app}:app`;
      const uses: readonly (readonly [isWrite: boolean, use: () => unknown])[] = [
        [true, () => app.set('a', 1)],
        [true, () => app.patch({ b: 2, c: 3 })],
        [true, () => app.increment('a')],
        [true, () => app.delete('b')],
        [false, () => app.get('a')],
        [false, () => app.get('absent')],
        [false, () => app.all()],
      ];
      await withPlainClient(redisUrl(), async (client) => {
        await app.set('first', 1);
        for (const [isWrite, use] of uses) {
          await client.pExpire(key, 1_000_000);
          await use();
          expect((await client.pTTL(key)) > 2_000_000, String(use)).toBe(isWrite || touch === 'read');
        }
        expect(await client.hGetAll(key)).toEqual({ a: '2', c: '3', first: '1' });
      });
    },
  );

  it('fields with ttl: null have no TTL, also if they had one before', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const user = { id: () => null };
    const timed = kit.state({ user: { ...user, ttl: '1h' } }).user('forever');
    const kept = kit.state({ user: { ...user, ttl: null } }).user('forever');
    const key = `${kit.prefix}:state:{forever}:user`;
    await withPlainClient(redisUrl(), async (client) => {
      for (const write of [() => kept.set('a', 1), () => kept.increment('a'), () => kept.delete('x')]) {
        await timed.set('a', 1);
        expect(await client.pTTL(key)).toBeGreaterThan(0);
        await write();
        expect(await client.pTTL(key)).toBe(-1);
      }
      await kept.clear();
      expect(await client.exists(key)).toBe(0);
    });
  });
});

describe('State that cannot be read', () => {
  it('a value of another type counts as absent, is reported once, and is replaced by the next write', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const { app } = kit.state({ app: DAY });
    const errors = eventsOf(kit, 'error');
    const key = `${kit.prefix}:state:{app}:app`;
    await withPlainClient(redisUrl(), async (client) => {
      const spoil = () => client.set(key, 'garbage', { EX: 60 });
      await spoil();
      expect([await app.get('a'), await app.all()]).toEqual([undefined, {}]);
      await app.set('a', 1);
      expect(await app.all()).toEqual({ a: 1 });
      await spoil();
      expect(await app.increment('a')).toBe(1);
      await spoil();
      expect(await app.delete('a')).toBe(0);
    });
    expect(errors).toMatchObject([{ feature: 'state', error: { code: 'ERR_REDIS_KIT_CORRUPT' } }]);
  });

  it('a field that is no JSON counts as absent, except for an increment, which does not overwrite it', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const { app } = kit.state({ app: DAY });
    const errors = eventsOf(kit, 'error');
    await app.set('a', 1);
    await withPlainClient(redisUrl(), (client) =>
      client.hSet(`${kit.prefix}:state:{app}:app`, { b: 'no JSON', '"no name': '1' }),
    );
    expect(await app.get('b')).toBeUndefined();
    expect(await app.all()).toEqual({ a: 1 });
    await expect(app.increment('b')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_NO_INTEGER' });
    await app.set('b', 2);
    expect(await app.get('b')).toBe(2);
    expect(errors).toMatchObject([{ feature: 'state', error: { code: 'ERR_REDIS_KIT_CORRUPT' } }]);
  });
});

describe('The middleware kit.state', () => {
  it('a second kit.state adds its scopes to those of the first', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const first = kit.state({ app: DAY, user: { id: userOf, ...DAY } });
    const second = kit.state({ user: { id: () => 'other', ...DAY } });
    const ask = await site([first, second], async ({ state }) => {
      await state.app.set('a', 1);
      await state.user?.set('a', 2);
    });
    await ask({ 'x-user': 'ann' });
    expect(await first.app.get('a')).toBe(1);
    expect([await first.user('ann').get('a'), await second.user('other').get('a')]).toEqual([undefined, 2]);
  });

  it.each<[string, StateOptions, (state: RequestState) => unknown, string, string]>([
    [
      'a session without kit.session',
      { session: DAY },
      (state) => state.session,
      'NO_IDENTITY',
      'mount kit.session',
    ],
    [
      'an empty session id',
      { session: { id: () => '', ...DAY } },
      (state) => state.session,
      'NO_IDENTITY',
      '`id` of `session`',
    ],
    [
      'a user id that is no string',
      { user: { id: () => 7 as never, ...DAY } },
      (state) => state.user,
      'NO_IDENTITY',
      'a number (7)',
    ],
    ['a scope without options', { session: DAY }, (state) => state.app, 'CONFIG', 'add `app: { ttl }`'],
  ])('%s throws an error that names the remedy', async (_what, options, use, code, remedy) => {
    const ask = await site([kitForTest({ url: 'memory:' }).state(options)], ({ state }) => void use(state));
    const { json } = await ask();
    expect(json).toMatchObject({ code: `ERR_REDIS_KIT_${code}`, message: expect.stringContaining(remedy) });
  });

  it.each([
    [undefined, 'options must be an object'],
    [{}, 'give `app`, `user` or `session`'],
    [{ app: {} }, 'option `app`: option `ttl` is undefined; it is required'],
    [{ app: { ttl: 0 } }, '`ttl` is 0'],
    [{ app: { ttl: '1h', id: () => 'a' } }, 'unknown option `id`'],
    [{ app: { expire: '1h', ttl: null } }, 'it is `ttl` here'],
    [{ user: { ttl: '1h' } }, 'option `user`: option `id` is undefined; it is required'],
    [{ user: { id: 'ann', ttl: '1h' } }, '`id`'],
    [{ app: DAY, touch: 'always' }, "`touch` is 'always'"],
    [{ app: { ttl: null }, touch: 'read' }, 'no scope has a `ttl`'],
    [{ app: DAY, ttl: '1d' }, 'each scope has a lifetime'],
    [{ app: DAY, maxBytes: 0 }, '`maxBytes` is 0'],
    [{ app: DAY, maxFields: 100_001 }, '`maxFields` is 100001'],
  ])('kit.state rejects the invalid options %j', (options, part) => {
    const kit = kitForTest({ url: 'memory:' });
    expect(() => kit.state(options as StateOptions)).toThrow(part);
  });

  it('a wrong argument rejects with an error that names it', async () => {
    const state = kitForTest({ url: 'memory:' }).state({ app: DAY, user: { id: () => null, ...DAY } });
    const { app } = state;
    await expect(app.get(undefined as never)).rejects.toThrow('state.get: the field is undefined');
    await expect(app.delete(5 as never)).rejects.toThrow('state.delete: the field is 5');
    await expect(app.set('a', undefined as never)).rejects.toThrow("the value of 'a' is undefined");
    await expect(app.set('a', () => 1)).rejects.toThrow("the value of 'a' is function");
    await expect(app.set('a', 1n)).rejects.toThrow("the value of 'a' cannot be stored as JSON");
    await expect(app.patch([1] as never)).rejects.toThrow('an array of 1');
    await expect(app.patch({ a: undefined as never })).rejects.toThrow("the value of 'a' is undefined");
    await expect(app.increment('a', 0.5)).rejects.toThrow('0.5; it must be a safe integer');
    expect(() => state.user('')).toThrow("the user's id is ''");
    expect(() => state.session('s')).toThrow('the scope `session` has no options');
  });
});
