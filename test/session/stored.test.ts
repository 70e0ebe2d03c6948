import express from 'express';
import type { SessionData } from 'express-session';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Emitter } from '../../src/base/emitter.ts';
import type { KitEvents } from '../../src/base/events.ts';
import { FailurePolicies } from '../../src/base/failure-policies.ts';
import { Keys } from '../../src/base/keys.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { Reporter } from '../../src/base/reporter.ts';
import { RequestDeadlines } from '../../src/engine/deadline.ts';
import { memoryEngine } from '../../src/engine/memory-engine.ts';
import { MemoryKeyspace } from '../../src/engine/memory-keyspace.ts';
import type { SessionOptions } from '../../src/index.ts';
import { sessionMiddleware } from '../../src/session/middleware.ts';
import { packSession } from '../../src/session/operations/format.ts';
import type { Seal } from '../../src/session/seal.ts';
import { TestClock } from '../support/both-engines.ts';
import { redisUrl } from '../support/context.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { connectPlainClient } from '../support/plain-client.ts';
import { Browser, serveSessions } from './browser.ts';

const TTL_MS = 60_000;

/** A kit with sessions, and functions that change their stored values. */
interface Meddling {
  readonly prefix: string;
  readonly session: ReturnType<typeof kitForTest>['session'];
  on<Name extends keyof KitEvents>(name: Name, listener: (event: KitEvents[Name]) => void): void;
  put(key: string, value: Buffer): Promise<void>;
  take(key: string): Promise<Buffer | undefined>;
}

async function onRedis(): Promise<Meddling> {
  const kit = kitForTest({ url: redisUrl() });
  const client = await connectPlainClient(redisUrl());
  onTestFinished(() => client.destroy());
  const bytes = client.withTypeMapping({ 36: Buffer });
  return {
    prefix: kit.prefix,
    session: kit.session,
    on: kit.on,
    put: async (key, value) => void (await client.set(key, value, { PX: TTL_MS })),
    take: async (key) => ((await bytes.get(key)) ?? undefined) as Buffer | undefined,
  };
}

async function inMemory(): Promise<Meddling> {
  const clock = new TestClock(Date.now());
  const keyspace = new MemoryKeyspace(clock);
  const events = new Emitter<KitEvents>(silentLogger);
  const prefix = testPrefix();
  const deps = {
    engine: memoryEngine(keyspace, clock),
    keys: new Keys(prefix),
    reporter: new Reporter(events, silentLogger),
    deadlines: new RequestDeadlines(500),
    isMemory: true,
    seals: new Set<Seal>(),
    failurePolicies: new FailurePolicies(),
  };
  return {
    prefix,
    session: (options = {}) => sessionMiddleware(options, deps),
    on: events.on.bind(events),
    put: async (key, value) => keyspace.set(key, value, TTL_MS),
    take: async (key) => keyspace.get(key),
  };
}

function recordOf(data: Buffer): Buffer {
  const now = Date.now();
  const times = { created: now, seen: now, idle: TTL_MS, absolute: 0, indexed: 0 };
  return packSession({ ...times, revision: 1, owner: '', data });
}

/** The stored value of a session, from texts that may be no JSON. */
function record(content: string, meta = '{"cookie":{}}'): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(meta));
  return recordOf(Buffer.concat([Buffer.of(0), length, Buffer.from(meta), Buffer.from(content)]));
}

const CORRUPT: Readonly<Record<string, Buffer>> = {
  empty: Buffer.alloc(0),
  'a single byte': Buffer.from('S'),
  'the first two bytes': Buffer.from('S\x01'),
  'a truncated header': record('{}').subarray(0, 36),
  'a length of the owner beyond the value': Buffer.concat([record('{}').subarray(0, 36), Buffer.of(200)]),
  'no data': recordOf(Buffer.alloc(0)),
  'truncated data': record('{}').subarray(0, 50),
  'a length beyond the data': recordOf(Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1])),
  'data without the length of its meta': recordOf(Buffer.from('{"cookie":{}}')),
  'another first byte': Buffer.from('X\x01'.padEnd(60, 'x')),
  'version 0': Buffer.from('S\x00'.padEnd(60, '\x7f')),
  "another library's JSON": Buffer.from('{"cookie":{"path":"/"},"userId":"ann"}'),
  'no JSON': record(''),
  'broken JSON': record('{"userId":'),
  'JSON that is no object': record('"ann"'),
  null: record('null'),
  'a JSON array': record('[1]'),
  'broken meta': record('{"userId":"ann"}', '{"cookie":'),
  'no cookie': record('{"userId":"ann"}', '{}'),
  'a cookie that is no object': record('{"userId":"ann"}', '{"cookie":"path"}'),
  'a cookie that makes express-session throw': record('{"userId":"ann"}', '{"cookie":{"maxAge":"long"}}'),
};

describe.each([
  ['memory:', inMemory],
  ['Redis', onRedis],
])('a stored session (%s)', (_, open) => {
  async function start(routes = {}, options: SessionOptions = {}) {
    const store = await open();
    const reported: string[] = [];
    store.on('session:corrupt', () => reported.push('corrupt'));
    store.on('error', ({ error }) => reported.push(error.message));
    const port = await serveSessions(store, options, routes, express().set('env', 'test'));
    const browser = new Browser(port);
    await browser.get('/view');
    return { store, reported, browser, key: browser.keyIn(store) };
  }

  it.each(Object.entries(CORRUPT))(
    'a stored session counts as absent and is reported if its value is corrupt: %s',
    async (_name, value) => {
      const { store, reported, browser, key } = await start();
      await store.put(key, value);
      expect(await browser.data()).toEqual({});
      expect(reported).toEqual(['corrupt', 'a stored session cannot be read and counts as absent']);
      for (const views of ['1', '2']) expect((await browser.get('/view')).body).toBe(views);
      expect(browser.keyIn(store)).not.toBe(key);
    },
  );

  it('a stored session that no handler reads is not parsed', async () => {
    const { store, reported, browser, key } = await start({
      '/unread': (_req: unknown, res: { end(text: string): void }) => res.end('unread'),
    });
    await store.put(key, record('{"userId":'));
    const answer = await browser.get('/unread');
    expect([answer.body, answer.header('set-cookie'), reported]).toEqual(['unread', undefined, []]);
    await browser.get('/');
    expect(reported).toEqual(['corrupt', 'a stored session cannot be read and counts as absent']);
  });

  it('a request with a session in a newer format is refused, and the session is not overwritten', async () => {
    const { store, reported, browser, key } = await start();
    const newer = Buffer.concat([Buffer.from('S\x03'), Buffer.alloc(60, 7)]);
    await store.put(key, newer);
    for (const path of ['/', '/view', '/login', '/logout']) {
      const answer = await browser.get(path);
      expect([answer.status, answer.header('content-type'), answer.header('set-cookie')]).toEqual([
        503,
        'application/problem+json; charset=utf-8',
        undefined,
      ]);
    }
    expect(await store.take(key)).toEqual(newer);
    expect(reported).toEqual([
      'a session value was written by a newer version of redis-kit; it is left untouched',
    ]);
  });

  it('a session that gets a newer format during a request is not overwritten, and the request is refused', async () => {
    const newer = Buffer.concat([Buffer.from('S\x03'), Buffer.alloc(60, 7)]);
    const { store, browser, key } = await start({
      '/upgrade': async (req: { session: { note?: string } }, res: { end(text: string): void }) => {
        await store.put(key, newer);
        req.session.note = 'old format';
        res.end('done');
      },
    });
    const answer = await browser.get('/upgrade');
    expect([answer.status, answer.body.includes('done')]).toEqual([503, false]);
    expect(await store.take(key)).toEqual(newer);
  });

  it('a session in a newer format is not overwritten by a new session with the same id', async () => {
    const { store, browser, key } = await start({}, { genid: () => 'always the same' });
    const newer = Buffer.concat([Buffer.from('S\x03'), Buffer.alloc(60, 7)]);
    await store.put(key, newer);
    expect((await new Browser(browser.port).get('/view')).status).toBe(503);
    expect(await store.take(key)).toEqual(newer);
  });

  it('a request with a session in a newer format has an empty session with `onError: "anonymous"`', async () => {
    const { store, browser, key } = await start({}, { onError: 'anonymous' });
    const newer = Buffer.concat([Buffer.from('S\x03'), Buffer.alloc(60, 7)]);
    await store.put(key, newer);
    expect((await browser.get('/view')).body).toBe('1');
    expect(await store.take(key)).toEqual(newer);
  });

  it('stored session data under names such as __proto__ is loaded and changes no prototype', async () => {
    const { store, reported, browser, key } = await start();
    const hostile = '{"__proto__":{"admin":true},"save":1,"touch":1,"login":"ann","note":"kept"}';
    await store.put(key, record(hostile));
    expect((await browser.get('/view')).body).toBe('1');
    expect(await browser.data()).toEqual({ note: 'kept', views: 1 });
    expect(Reflect.get({}, 'admin')).toBeUndefined();
    expect(reported).toEqual([]);
  });
});

it('a stored value of another Redis type counts as an absent session', async () => {
  const store = await onRedis();
  const reported: unknown[] = [];
  store.on('session:corrupt', (event) => reported.push(event));
  const browser = new Browser(await serveSessions(store));
  await browser.get('/view');
  const client = await connectPlainClient(redisUrl());
  onTestFinished(() => client.destroy());
  const key = browser.keyIn(store);
  await client.del(key);
  await client.rPush(key, 'a list');
  await client.pExpire(key, TTL_MS);
  expect((await browser.get('/view')).body).toBe('1');
  expect(reported).toEqual([{ handle: key.slice(-44, -1) }]);
});

it('a change to the cookie of data from the store changes no other session', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const store = kit.sessionStore();
  const cookie = { originalMaxAge: null, path: '/' } as SessionData['cookie'];
  await store.set('one', { cookie });
  await store.set('two', { cookie });
  const one = await store.get('one');
  if (one !== null) one.cookie.path = '/elsewhere';
  expect((await store.get('two'))?.cookie.path).toBe('/');
  expect((await store.get('one'))?.cookie.path).toBe('/');
});
