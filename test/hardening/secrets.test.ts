import { hash } from 'node:crypto';
import { inspect } from 'node:util';
import express from 'express';
import { createClient } from 'redis';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import type { KitOptions, RedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { freePort, type RedisServer, startRedis } from '../support/servers.ts';
import { keepingLogger } from '../support/stores.ts';
import { send, serve } from '../support/web.ts';

const PASSWORD = 'the-p4ssword-of-redis';
const USER = { username: 'app', password: PASSWORD };
const SECRET = 'the-s3cret-of-cookies';
const OLD_SECRET = Buffer.from('the-0ld-secret-of-cookies');
const ENCRYPTION_KEY = Buffer.from(hash('sha256', 'the key of sessions', 'hex'), 'hex');
const BEARER = 'the-b3arer-token-of-ann';

/** The forms in which a secret could be shown. */
function formsOf(secret: string | Buffer): readonly string[] {
  const bytes = Buffer.from(secret);
  return [
    bytes.toString('latin1'),
    bytes.toString('hex'),
    bytes.toString('base64'),
    inspect(bytes).slice(8, 40),
  ];
}

const SECRETS = [PASSWORD, SECRET, OLD_SECRET, ENCRYPTION_KEY, BEARER].flatMap(formsOf);

const EVENTS = [
  ...([
    'error',
    'connection:up',
    'connection:down',
    'connection:breaker',
    'rate:degraded',
    'rate:misuse',
  ] as const),
  ...([
    'session:created',
    'session:loaded',
    'session:rotated',
    'session:destroyed',
    'session:conflict',
  ] as const),
  ...(['session:corrupt', 'session:revoked', 'idempotency:replayed', 'idempotency:refused'] as const),
  ...(['idempotency:recovered', 'lock:acquired', 'lock:lost', 'lock:refused', 'lock:released'] as const),
  ...(['cache:stored', 'cache:skipped', 'cache:miss', 'concurrency:degraded'] as const),
];

let server: RedisServer;

/** Everything that a kit shows, as text, with all causes and hidden properties. */
async function watch(options: Partial<KitOptions>) {
  const logger = keepingLogger();
  const kit = kitForTest({ commandTimeout: '2s', logger, ...options } as KitOptions);
  const events = EVENTS.map((name) => eventsOf(kit, name));
  const seen: unknown[] = [];
  const show = () => {
    const parts = [kit, kit.namespace('x'), kit.locks, kit.sessions, events, logger.lines, seen];
    return parts
      .map((part) => inspect(part, { depth: 10, showHidden: true, maxArrayLength: null }))
      .join('\n');
  };
  return { kit, seen, show, events, json: () => JSON.stringify([kit, seen, events]) };
}

/** Uses every feature that gets a secret, with the errors that occur. Returns the session cookies and all responses. */
async function useSecrets(kit: RedisKit, seen: unknown[]): Promise<readonly string[]> {
  const app = express();
  const session = kit.session({ secret: [SECRET, OLD_SECRET], encrypt: { keys: [ENCRYPTION_KEY] } });
  const limiter = kit.rateLimit({ algorithm: 'sliding-window', limit: 100, window: '1h', onError: 'deny' });
  const all = [session, limiter, kit.idempotency(), kit.lock({ key: () => 'a' }), kit.cache({ ttl: '1m' })];
  seen.push(all, limiter.limiter, kit.sessionStore());
  app.use('/health', kit.health({ details: true }));
  app.use(...all);
  app.use(async (req, res) => {
    await req.session.login('ann', { data: { note: 'x' } });
    res.send('in');
  });
  const failed: express.ErrorRequestHandler = (error, _req, res, _next) => {
    seen.push(error);
    res.status(500).send(String(error.stack));
  };
  app.use(failed);
  const address = await serve(app);
  const ids: string[] = [];
  for (const method of ['GET', 'POST', 'POST']) {
    const headers = { Authorization: `Bearer ${BEARER}`, 'Idempotency-Key': '"one"', Cookie: ids[0] ?? '' };
    const answer = await send(`${address}/`, { method, headers });
    const [cookie = ''] = answer.headers['set-cookie'] ?? [];
    if (cookie !== '') ids.push(cookie.split(';')[0] ?? '');
    seen.push(answer.status, answer.text);
  }
  seen.push((await send(`${address}/health`)).text, await kit.check());
  const calls = [
    kit.ready(),
    kit.locks.acquire('b', { wait: 1 }),
    kit.sessions.list('ann'),
    kit.invalidate({ tags: 'a' }),
    kit.limiter({ algorithm: 'sliding-window', limit: 1, window: '1h', name: 'one' }).consume('ann'),
  ];
  seen.push(await Promise.allSettled(calls));
  return ids;
}

/** The ids of the sessions in cookies, with and without their signature. */
function idsOf(cookies: readonly string[]): readonly string[] {
  return cookies.flatMap((cookie) => {
    const value = decodeURIComponent(cookie.split('=')[1] ?? '');
    return [value, value.replace(/^s:/, '').split('.')[0] ?? ''];
  });
}

const at = (login: string) => `redis://${login}@${server.host}:${server.port}`;

describeWithServers('Secrets', () => {
  beforeAll(async () => {
    const user = ['--user', 'app', 'on', `>${PASSWORD}`, '~*', '&*', '+@all'];
    const narrow = [
      '--user',
      'narrow',
      'on',
      `>${PASSWORD}`,
      '~*',
      '&*',
      '+@all',
      '-set',
      '-zadd',
      '-config',
      '-info',
    ];
    server = await startRedis({ args: ['--requirepass', PASSWORD, ...user, ...narrow] });
  });
  afterAll(() => server.stop());

  it('a kit, its events, errors, logs and responses show no secret while everything works', async () => {
    const { kit, seen, show, json, events } = await watch({ url: at(`app:${PASSWORD}`) });
    await kit.ready();
    const cookies = await useSecrets(kit, seen);
    expect(events.flat().length).toBeGreaterThan(3);
    expect(cookies.length).toBeGreaterThan(0);
    for (const shown of [show(), json()]) {
      for (const secret of [...SECRETS, ...idsOf(cookies)]) expect(shown).not.toContain(secret);
    }
  });

  it('errors, events, logs and responses show no secret while Redis cannot be used', async () => {
    const absent = await freePort();
    const wrong = `${PASSWORD}x`;
    const kits: Readonly<Record<string, Partial<KitOptions>>> = {
      'a wrong password in a URL': { url: at(`:${wrong}`) },
      'a wrong password in an option': { host: server.host, port: server.port, ...USER, password: wrong },
      'a user without permissions': { url: at(`narrow:${PASSWORD}`) },
      'a server that is absent': { url: `redis://app:${PASSWORD}@127.0.0.1:${absent}` },
      'a server without TLS': { url: `rediss://app:${PASSWORD}@127.0.0.1:${server.port}` },
      'a Cluster that is absent': { cluster: { nodes: [`redis://127.0.0.1:${absent}`], ...USER } },
      'a server that is no Cluster': { cluster: { nodes: [server.url], ...USER } },
    };
    // Together, since `kit.ready()` takes its five seconds for each.
    await Promise.all(
      Object.entries(kits).map(async ([trouble, options]) => {
        const { kit, seen, show, json, events } = await watch({ ...options, commandTimeout: '200ms' });
        const cookies = await useSecrets(kit, seen);
        expect(events.flat().length, `${trouble} is reported`).toBeGreaterThan(0);
        for (const shown of [show(), json()]) {
          for (const secret of [...SECRETS, ...idsOf(cookies)]) expect(shown, trouble).not.toContain(secret);
        }
      }),
    );
  });

  it('a kit shows nothing of a borrowed client', async () => {
    const client = createClient({ url: at(`app:${PASSWORD}`) });
    client.on('error', () => undefined);
    await client.connect();
    onTestFinished(() => client.destroy());
    const { kit, show } = await watch({ client: Object.assign(client, { note: PASSWORD }) as never });
    await kit.check();
    expect(show()).not.toContain(PASSWORD);
    expect(inspect({ kit }, { depth: 10, showHidden: true })).toBe(
      `{ kit: RedisKit { prefix: '${kit.prefix}' } }`,
    );
    expect(JSON.stringify(kit)).toBe(`{"prefix":"${kit.prefix}"}`);
  });

  it('an error about a wrong option does not show a secret in it', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const wrong: (() => unknown)[] = [
      () => kitForTest({ url: `redis://app:${PASSWORD}@host:6379/x` }),
      () => kitForTest({ url: `app:${PASSWORD}@host` }),
      () => kitForTest({ host: `app:${PASSWORD}@host` }),
      () => kitForTest({ host: 'a', password: [PASSWORD] as never }),
      () => kitForTest({ cluster: { nodes: [`redis://app:${PASSWORD}@host`] } }),
      () => kitForTest({ url: 'redis://host', client: { password: PASSWORD } as never }),
      () => kitForTest({ client: { password: PASSWORD } as never }),
      () => kit.session({ secret: SECRET.slice(0, 5) }),
      () => kit.session({ secret: [SECRET, 7] as never }),
      () => kit.session({ secret: { secret: SECRET } as never }),
      () => kit.session({ secret: SECRET, encrypt: { keys: [ENCRYPTION_KEY.subarray(1)] } }),
      () => kit.session({ secret: SECRET, encrypt: { keys: [String(ENCRYPTION_KEY)] as never } }),
    ];
    for (const attempt of wrong) {
      let error: unknown;
      try {
        attempt();
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toMatchObject({ code: 'ERR_REDIS_KIT_CONFIG' });
      const shown = inspect(error, { depth: 10, showHidden: true });
      for (const secret of [...SECRETS, SECRET.slice(0, 5)])
        expect(shown.replace(/\n +at .*/g, '')).not.toContain(secret);
    }
  });
});
