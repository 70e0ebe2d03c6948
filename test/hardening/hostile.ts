import { hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import express, { type RequestHandler } from 'express';
import { expect } from 'vitest';
import type { Middleware, RedisKit } from '../../src/index.ts';
import { openEvents } from '../sse/events.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

const LONG = 'x'.repeat(10_240);

/** Strings that clients could choose to reach keys of others. Every two of them are different ids. */
export const HOSTILE: readonly string[] = [
  ...['*', '?', '[a-z]', '\\', 'a{b}c', 'a{b}', '{b}', 'b', '}{', '{}', '%7bb%7d', '%', '%u7b'],
  ...[':', 'a:b', 'a', 'a:line', 'a:fence', 'a}:line', ' a', 'a ', 'a\0', 'a\0b', '\n', '\t'],
  ...['\r\n$3\r\nDEL\r\n', '*1\r\n$8\r\nFLUSHALL\r\n', "' return redis.call('FLUSHALL') --", '> \n'],
  ...['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'null', 'undefined', '0', '../..'],
  ...['\ud800', '\udbff', '\udc00', '\ufffd', 'a\ud800', 'é', 'e\u0301', '\u2028', '\u{1f600}'],
  ...[LONG, `${LONG.slice(1)}y`, LONG.slice(0, 64), LONG.slice(0, 65), hashOf(LONG), hashOf('a')],
];

/** The form of a hashed id in a key. */
function hashOf(id: string): string {
  return `*${hash('sha256', Buffer.from(id, 'utf16le'), 'base64url')}`;
}

/** Serves each hostile string under its index: `middlewareOf` creates the middleware, which finds the string by `idOf`. */
async function serveIds(
  middlewareOf: (idOf: (req: { readonly url: string }) => string) => Middleware,
  handler: RequestHandler = (_req, res) => void res.send('done'),
) {
  const idOf = ({ url }: { readonly url: string }) => HOSTILE[Number(/\d+/.exec(url)?.[0])] ?? '';
  const app = express();
  app.use(middlewareOf(idOf));
  app.use(handler);
  const address = await serve(app);
  return (index: number, method = 'GET', headers = {}) =>
    send(`${address}/${index}`, { method, headers }).then(({ status, text }) => ({ status, text }));
}

/** Runs a step for each hostile string at once, and returns the results in order. */
function each<Result>(step: (id: string, index: number) => Promise<Result>): Promise<Result[]> {
  return Promise.all(HOSTILE.map(step));
}

/** Longer names of fields and longer members are refused. */
const isShort = (text: string) => text.length < 1_000;

const ALL_TRUE = HOSTILE.map(() => true);

const LIMIT = { algorithm: 'sliding-window', limit: 1, window: '1h' } as const;
const BUCKET = { algorithm: 'token-bucket', capacity: 1, refill: { tokens: 1, per: '1h' } } as const;

/**
 * Uses of the features that take a string from a client. Each fails if two of the hostile strings share anything. Each is
 * also run in several namespaces at once, which must share nothing either.
 */
export const USES: Readonly<Record<string, (kit: RedisKit) => Promise<void>>> = {
  async 'ids of a limiter'(kit) {
    for (const policy of [LIMIT, BUCKET]) {
      const limiter = kit.limiter(policy);
      expect(await each(async (id) => (await limiter.consume(id)).allowed)).toEqual(ALL_TRUE);
      expect(await each(async (id) => (await limiter.consume(id)).allowed)).not.toContain(true);
      await limiter.reset('a');
      const again = await each(async (id) => ((await limiter.peek(id)).remaining === 1 ? id : ''));
      expect(again.filter((id) => id !== '')).toEqual(['a']);
    }
  },

  async 'ids of a limiter that blocks and reserves'(kit) {
    const { limiter } = kit.rateLimit({ ...LIMIT, name: 'block', block: '1h', denyCache: false });
    const ahead = kit.rateLimit({ ...LIMIT, name: 'ahead', reserve: { units: 1, hold: '1m' } }).limiter;
    for (const tried of [limiter, ahead]) {
      expect(await each(async (id) => (await tried.consume(id)).allowed)).toEqual(ALL_TRUE);
      expect(await each(async (id) => (await tried.consume(id)).allowed)).not.toContain(true);
    }
  },

  async 'keys of a store for express-rate-limit'(kit) {
    const store = kit.expressRateLimitStore({ name: 'store' });
    store.init({ windowMs: 60_000 } as never);
    expect(await each(async (id) => (await store.increment(id)).totalHits)).toEqual(HOSTILE.map(() => 1));
    await store.resetKey('a');
    expect(await each(async (id) => (await store.get?.(id))?.totalHits ?? id)).toEqual(
      HOSTILE.map((id) => (id === 'a' ? 'a' : 1)),
    );
  },

  async 'keys of locks'(kit) {
    const locks = await each((id) => kit.locks.tryAcquire(id, { metadata: id.slice(0, 100) }));
    expect(locks.map((lock) => lock !== null)).toEqual(ALL_TRUE);
    expect(await each((id) => kit.locks.tryAcquire(id))).toEqual(HOSTILE.map(() => null));
    expect(await each(async (id) => (await kit.locks.inspect(id)).metadata)).toEqual(
      HOSTILE.map((id) => id.slice(0, 100)),
    );
    await Promise.all(locks.map((lock) => lock?.release()));
    await using all = await kit.locks.acquire(HOSTILE);
    expect(all.fences.size).toBe(HOSTILE.length);
  },

  async 'keys of cached values'(kit) {
    expect(await each((id) => kit.remember(id, '1h', () => id))).toEqual(HOSTILE);
    await kit.invalidate({ key: 'a' });
    expect(await each((id) => kit.remember(id, '1h', () => 'new'))).toEqual(
      HOSTILE.map((id) => (id === 'a' ? 'new' : id)),
    );
  },

  async 'tags of cached values'(kit) {
    const tagged = (tag: string, index: number, value: string) =>
      kit.remember(`tagged-${index}`, { ttl: '1h', tags: [tag] }, () => value);
    await each((tag, index) => tagged(tag, index, 'old'));
    await kit.invalidate({ tags: 'a{b}' });
    const values = await each((tag, index) => tagged(tag, index, 'new'));
    expect(HOSTILE.filter((_tag, index) => values[index] === 'new')).toEqual(['a{b}']);
  },

  async 'keys and tags of cached responses'(kit) {
    let runs = 0;
    const ask = await serveIds(
      (idOf) => kit.cache({ ttl: '1h', key: (req) => idOf(req), tags: (req) => [idOf(req)] }),
      (_req, res) => void res.send(String(++runs)),
    );
    const first = await each((_id, index) => ask(index));
    expect(new Set(first.map(({ text }) => text)).size).toBe(HOSTILE.length);
    expect(await each((_id, index) => ask(index))).toEqual(first);
    await kit.invalidate({ tags: 'a' });
    const changed = await each(async (_id, index) => (await ask(index)).text !== first[index]?.text);
    expect(HOSTILE.filter((_id, index) => changed[index])).toEqual(['a']);
  },

  async 'scopes of idempotency keys'(kit) {
    let runs = 0;
    const ask = await serveIds(
      (idOf) => kit.idempotency({ scope: (req) => idOf(req), fingerprint: () => 'same' }),
      (_req, res) => void res.send(String(++runs)),
    );
    const headers = { 'Idempotency-Key': '"same"' };
    const first = await each((_id, index) => ask(index, 'POST', headers));
    expect(new Set(first.map(({ text }) => text)).size).toBe(HOSTILE.length);
    expect(await each((_id, index) => ask(index, 'POST', headers))).toEqual(first);
  },

  async 'idempotency keys'(kit) {
    let runs = 0;
    const ask = await serveIds(
      () => kit.idempotency({ scope: () => 'same', fingerprint: () => 'same' }),
      (_req, res) => void res.send(String(++runs)),
    );
    // Other keys cannot be sent in a header. A key is refused if it is malformed.
    const sendable = HOSTILE.filter((id) => /^[!-~]{1,200}$/.test(id));
    const all = () => Promise.all(sendable.map((id, index) => ask(index, 'POST', { 'Idempotency-Key': id })));
    const first = await all();
    const accepted = first.filter(({ status }) => status === 200).map(({ text }) => text);
    expect(accepted.length).toBeGreaterThan(10);
    expect(new Set(accepted).size).toBe(accepted.length);
    expect(first.every(({ status }) => status === 200 || status === 400)).toBe(true);
    expect(await all()).toEqual(first);
  },

  async 'names of channels'(kit) {
    // The others are refused: a name is no key, so it is neither hashed nor encoded.
    const names = HOSTILE.filter(
      (name) => Buffer.byteLength(name) <= 512 && Buffer.from(name).toString() === name,
    );
    const received: [number, unknown][] = [];
    const stops = await Promise.all(
      names.map((name, index) => kit.subscribe(name, (data) => received.push([index, data]))),
    );
    await Promise.all(names.map((name, index) => kit.publish(name, index)));
    await until('all arrive', () => received.length >= names.length);
    expect(received.sort(([one], [other]) => one - other)).toEqual(
      names.map((_name, index) => [index, index]),
    );
    await Promise.all(stops.map((stop) => stop()));
  },

  async 'channels of streams of a log'(kit) {
    const log = kit.log<string>('hostile {log}', { ttl: '1h' });
    await each((id, index) => log.append(id, `${index}`));
    const idOf = ({ url }: IncomingMessage) => HOSTILE[Number(/\d+/.exec(url ?? '')?.[0])] ?? '';
    const address = await serve(express().use(kit.sse({ channels: idOf, replay: log })));
    const readers = await each((_id, index) => openEvents(`${address}/${index}?lastEventId=0-0`));
    await each((id, index) => log.append(id, `${index} again`));
    const received = await Promise.all(readers.map(async (reader) => (await reader.count(2)).data));
    expect(received).toEqual(HOSTILE.map((_id, index) => [`${index}`, `${index} again`]));
    for (const reader of readers) reader.close();
  },

  async 'keys of a concurrency limit'(kit) {
    let opened: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      opened = resolve;
    });
    let running = 0;
    const ask = await serveIds(
      (idOf) => kit.concurrency({ key: (req) => idOf(req), limit: 1, name: 'hostile {name}' }),
      async (_req, res) => {
        if (++running === HOSTILE.length) opened();
        await gate;
        res.send('done');
      },
    );
    const statuses = await each(async (_id, index) => (await ask(index)).status);
    expect(statuses).toEqual(HOSTILE.map(() => 200));
  },

  async 'ids and names of logs'(kit) {
    const log = kit.log<string>('hostile', { ttl: '1h' });
    const followed: string[] = [];
    await log.follow('a', ({ event }) => followed.push(event), { after: '0-0' });
    await each((id) => log.append(id, id));
    expect(await each(async (id) => (await log.last(id, 9)).map(({ event }) => event))).toEqual(
      HOSTILE.map((id) => [id]),
    );
    await log.clear('*');
    expect(await each(async (id) => (await log.last(id, 9)).length)).toEqual(
      HOSTILE.map((id) => (id === '*' ? 0 : 1)),
    );
    await until('the follower has its entry', () => followed.length > 0);
    expect(followed).toEqual(['a']);
    const named = (name: string) => kit.log<string>(name, { ttl: '1h' });
    await each((name) => named(name).append('same', name));
    expect(await each(async (name) => (await named(name).last('same', 9)).map(({ event }) => event))).toEqual(
      HOSTILE.map((name) => [name]),
    );
  },

  async 'ids of users'(kit) {
    const app = express();
    app.use(kit.session({ secret: 'a secret of the test' }));
    app.use(async (req, res) => {
      await req.session.login(HOSTILE[Number(req.url.slice(1))] ?? '');
      res.send('done');
    });
    const address = await serve(app);
    await each((_id, index) => send(`${address}/${index}`));
    expect(await each(async (id) => (await kit.sessions.list(id)).length)).toEqual(HOSTILE.map(() => 1));
    expect(await kit.sessions.revokeAll('a')).toBe(1);
    const counts = await each((id) => kit.sessions.count(id));
    expect(HOSTILE.filter((_id, index) => counts[index] === 0)).toEqual(['a']);
  },

  async 'ids of sessions'(kit) {
    const stores = [
      kit.sessionStore({ idle: '1h' }),
      kit.sessionStore({ idle: '1h', compatible: 'connect-redis', prefix: `${kit.prefix}:sess:` }),
    ];
    // In the format of connect-redis an id is a part of the key as it is, and so becomes UTF-8.
    const inUtf8 = HOSTILE.filter((id) => Buffer.from(id).toString() === id);
    for (const [store, ids] of [
      [stores[0], HOSTILE],
      [stores[1], inUtf8],
    ] as const) {
      await Promise.all(
        ids.map((id) => store?.set(id, { cookie: { originalMaxAge: null }, note: id } as never)),
      );
      await store?.destroy('a');
      const notes = await Promise.all(
        ids.map(async (id) => ((await store?.get(id)) as { note?: string } | undefined)?.note),
      );
      expect(notes).toEqual(ids.map((id) => (id === 'a' ? undefined : id)));
    }
  },

  async 'ids of users and names of fields of state'(kit) {
    const state = kit.state({
      app: { ttl: '1h' },
      user: { id: () => null, ttl: '1h' },
      session: { ttl: '1h' },
    });
    const fields = HOSTILE.filter(isShort);
    await each((id) => state.user(id).set('note', id));
    await each((id) => state.session(id).set('note', id));
    await Promise.all(fields.map((field) => state.app.set(field, field)));
    await state.user('*').clear();
    await state.session('*').delete('note');
    await state.app.delete('*');
    const left = HOSTILE.map((id) => (id === '*' ? undefined : id));
    expect(await each((id) => state.user(id).get('note'))).toEqual(left);
    expect(await each((id) => state.session(id).get('note'))).toEqual(left);
    const all = await state.app.all();
    expect(Object.keys(all).sort()).toEqual(fields.filter((field) => field !== '*').sort());
    expect(Object.entries(all).filter(([field, value]) => field !== value)).toEqual([]);
  },

  async 'ids and names of documents'(kit) {
    const byId = kit.documents<string>('notes', { ttl: '1h' });
    const byName = (name: string) => kit.documents<string>(name, { ttl: '1h' });
    await each((id) => byId.set(id, id));
    await each((name) => byName(name).set('note', name));
    expect(await byId.delete('*')).toBe(true);
    expect(await byName('*').delete('note')).toBe(true);
    const left = HOSTILE.map((id) => (id === '*' ? undefined : id));
    expect(await each((id) => byId.get(id))).toEqual(left);
    expect(await each((name) => byName(name).get('note'))).toEqual(left);
  },

  async 'ids, names and members of sets'(kit) {
    const set = kit.members('set', { ttl: '1h' });
    const named = (name: string) => kit.members(name, { ttl: null });
    const short = HOSTILE.filter(isShort);
    expect(new Set(await each((id) => set.add(id, 'one')))).toEqual(new Set([true]));
    expect(new Set(await each((name) => named(name).add('forever', 'one')))).toEqual(new Set([true]));
    expect(new Set(await Promise.all(short.map((member) => set.add('all', member))))).toEqual(
      new Set([true]),
    );
    await set.clear('*');
    await named('*').clear('forever');
    expect(await set.remove('all', '*')).toBe(true);
    expect(await each((id) => set.size(id))).toEqual(HOSTILE.map((id) => (id === '*' ? 0 : 1)));
    const sizes = await each((name) => named(name).size('forever'));
    expect(sizes).toEqual(HOSTILE.map((name) => (name === '*' ? 0 : 1)));
    const { members } = await set.list('all', { limit: 1_000 });
    expect(members.toSorted()).toEqual(short.filter((member) => member !== '*').toSorted());
    await each((name) => named(name).clear('forever'));
  },
};
