import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type CompiledKit, compileDeclarations, compileKit } from '../support/compiled-kit.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const TSC = join(root, 'node_modules/typescript/bin/tsc');

/** The compiler and the snippets take their time on a busy machine. */
vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

/** The front page and all pages in docs/, relative to the root. */
const PAGES = [
  'README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

/** `kit` and `app`, for snippets that do not create their own. */
const PREAMBLE = `import express from 'express';
import { createRedisKit } from 'redis-kit';
const kit = createRedisKit({ url: 'memory:' });
const app = express();
`;

/** All snippets of all pages, by the name of the file that each becomes. */
function snippets(): Readonly<Record<string, string>> {
  return Object.fromEntries(
    PAGES.flatMap((page) => {
      const codes = [...read(page).matchAll(/```ts\n(.*?)```/gs)].map(([, code = '']) => code);
      const [setup = ''] = codes;
      const preamble = page === 'docs/recipes.md' ? setup : PREAMBLE;
      return codes.map((code, index) => [
        `${page.replace(/\W/g, '-')}-${index + 1}.ts`,
        `${code.includes("from 'redis-kit'") ? '' : preamble}${code}\nexport {};\n`,
      ]);
    }),
  );
}

/** The compiled package, whose declarations can lack what the sources have. */
let compiled: CompiledKit;

beforeAll(async () => {
  compiled = await compileKit();
  await compileDeclarations(compiled);
});

afterAll(() => compiled.remove());

/** Writes files of a user's project, in which `redis-kit` is the compiled package. */
function project(files: Readonly<Record<string, string>>): string {
  mkdirSync(join(root, '.cache'), { recursive: true });
  const folder = mkdtempSync(join(root, '.cache/types-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const index = fileURLToPath(compiled.url).replace(/\.js$/, '');
  // tsx loads the first, tsc the second. Otherwise both would find a package that was built earlier in dist/.
  const paths = { 'redis-kit': [index, `${index}.d.ts`] };
  const compilerOptions = { paths, noUnusedLocals: false, noUnusedParameters: false };
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ extends: '../../tsconfig.json', compilerOptions, include: ['*.ts'] }),
  );
  return folder;
}

async function typeCheck(files: Readonly<Record<string, string>>): Promise<void> {
  try {
    await run(process.execPath, [TSC, '-p', project(files)], { cwd: root });
  } catch (error) {
    throw new Error(String((error as { stdout?: string }).stdout), { cause: error });
  }
}

/** The anchors of a page, as GitHub makes them of its headings. */
function anchorsOf(page: string): readonly string[] {
  return [...read(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

describe('the docs', () => {
  it('every snippet of the docs compiles', async () => {
    const files = snippets();
    expect(Object.keys(files).length).toBeGreaterThanOrEqual(4);
    await typeCheck(files);
  });

  it('every snippet of the docs that needs no Redis server and no free port runs to its end', async () => {
    const files = Object.entries(snippets()).filter(([, code]) => !/\brediss?:\/\/|env\.PORT/.test(code));
    expect(files.length).toBeGreaterThan(20);
    const imports = files.map(([name]) => `console.log('${name}');\nawait import('./${name}');\n`);
    const folder = project({
      ...Object.fromEntries(files),
      'all.ts': `${imports.join('')}console.log('the last snippet has run');\n`,
    });
    const { REDIS_URL, NODE_ENV, ...env } = process.env;
    const { stdout } = await run(process.execPath, ['--import', 'tsx', join(folder, 'all.ts')], {
      cwd: root,
      env: {
        ...env,
        SESSION_SECRET: 'of at least 8 characters',
        TSX_TSCONFIG_PATH: compiled.tsconfig,
      },
      timeout: 300_000,
    });
    expect(stdout).toContain('the last snippet has run');
  });

  it('the README is a front page of at most 10 kB', () => {
    expect(Buffer.byteLength(read('README.md'))).toBeLessThanOrEqual(10_000);
  });

  it('every link to a file of the repository leads to that file and to a heading in it', () => {
    const broken = [...PAGES, 'CONTRIBUTING.md', 'examples/chat/README.md'].flatMap((page) =>
      [...read(page).matchAll(/\]\((?!https?:)([^)#]*)#?([^)]*)\)/g)]
        .map(([, file = '', anchor = '']) => ({ target: file ? join(dirname(page), file) : page, anchor }))
        .filter(
          ({ target, anchor }) =>
            !existsSync(join(root, target)) || (anchor !== '' && !anchorsOf(target).includes(anchor)),
        )
        .map(({ target, anchor }) => `${page}: ${target}#${anchor}`),
    );
    expect(broken).toEqual([]);
  });

  it('every file and folder that CONTRIBUTING.md names exists', () => {
    const named = [...read('CONTRIBUTING.md').matchAll(/`((?:[\w.-]+\/)+(?:[\w.-]+\.\w+)?)`/g)].map(
      ([, path = '']) => path,
    );
    expect(named.length).toBeGreaterThan(10);
    // A folder without a parent may be one of a feature.
    const places = ['', 'src', 'src/rate-limit'];
    expect(named.filter((path) => !places.some((place) => existsSync(join(root, place, path))))).toEqual([]);
  });

  it('every feature page in docs/ has the same headings', () => {
    const features = [...read('docs/README.md').matchAll(/\]\(([\w-]+\.md)\) \| `kit\./g)].map(
      ([, page]) => `docs/${page}`,
    );
    expect(features.length).toBeGreaterThanOrEqual(12);
    const skeleton = ['Example', 'Options', 'Behaviour', 'When Redis is down', 'Keys and commands', 'Limits'];
    for (const page of features) {
      const headings = [...read(page).matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
      expect(headings, page).toEqual(skeleton);
    }
  });

  it('docs/errors.md has a heading for every error code, and for no other', () => {
    const codes = [...read('src/base/errors.ts').matchAll(/\| '(ERR_\w+)'/g)].map(([, code]) => code);
    const headings = [...read('docs/errors.md').matchAll(/^## (\w+)$/gm)].map(([, code]) => code);
    expect(codes.length).toBeGreaterThan(5);
    expect(headings).toEqual(codes);
  });

  it('docs/errors.md names every command that scripts call', () => {
    const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((file) =>
      file.endsWith('.ts'),
    );
    const commands = sources.flatMap((file) =>
      [...read(`src/${file}`).matchAll(/\b(?:call|read)\('([A-Z]+)'/g)].map(([, command = '']) => command),
    );
    const [list = ''] = /^A user with restricted rights .*$/m.exec(read('docs/errors.md')) ?? [];
    const named = new Set(list.match(/\b[A-Z]{3,}\b/g));
    expect(commands.length).toBeGreaterThan(50);
    expect([...new Set(commands)].filter((command) => !named.has(command))).toEqual([]);
  });

  it('docs/events.md has a row for every event, and for no other', () => {
    const [, interfaceText = ''] =
      /interface KitEvents \{\n(.*?)\n\}/s.exec(read('src/base/events.ts')) ?? [];
    const events = [...interfaceText.matchAll(/^ {2}'?(\w+(?::[\w-]+)?)'?:/gm)].map(([, name]) => name);
    const rows = [...read('docs/events.md').matchAll(/^\| `([\w:-]+)` \|/gm)].map(([, name]) => name);
    expect(events.length).toBeGreaterThan(30);
    expect(rows.sort()).toEqual(events.sort());
  });

  it('the README names every runtime dependency', () => {
    const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> };
    for (const name of Object.keys(dependencies)) expect(read('README.md')).toContain(`\`${name}\``);
  });
});

describe('the types', () => {
  it('a middleware is accepted by Express 4 and 5, typed routes, routers and Connect', async () => {
    const use = `
      import { createRedisKit } from 'redis-kit';
      const kit = createRedisKit({ url: process.env.REDIS_URL, prefix: undefined });
      const limit = kit.rateLimit({ algorithm: 'sliding-window', limit: 1, window: '1m', key: (req) => req.ip ?? null });
      const all = [limit, kit.session({ secret: 'x' }), kit.cache({ ttl: '30s' }), kit.lock({ key: (req) => String(req.params.id) }), kit.idempotency(), kit.concurrency({ limit: 1 }), kit.sse({ channels: (req) => String(req.query.id) })];
      const [first = limit] = all;
    `;
    await typeCheck({
      'express5.ts': `${use}
        import express from 'express';
        const app = express();
        app.use(...all);
        app.use('/api', limit);
        app.get('/orders/:id', first, (req, res) => void res.json([req.params.id, req.rateLimit?.remaining, req.lock?.fence, req.idempotency?.attempt, req.session.userId]));
        express.Router().post('/', limit, (_req, res) => void res.end());
      `,
      'express4.ts': `${use}
        import express from 'express4';
        const app = express();
        app.use(...all);
        app.get('/orders/:id', first, (req, res) => void res.json(req.params.id));
      `,
      'connect.ts': `${use}
        import connect from 'connect';
        connect().use(first).use('/api', limit);
      `,
      'clients.ts': `
        import { createClient, createCluster } from 'redis';
        import { createRedisKit, type Duration } from 'redis-kit';
        const client = createClient();
        const kit = createRedisKit({ client });
        const value: Promise<string | null> = kit.client.get('x');
        createRedisKit({ client: createCluster({ rootNodes: [] }) }).client.masters;
        const span: Duration = '5m';
        // @ts-expect-error no such unit
        const wrong: Duration = '5 minutes';
        // @ts-expect-error not a client
        createRedisKit({ client: { get: () => 1 } });
        // @ts-expect-error the bucket has no window
        kit.limiter({ algorithm: 'token-bucket', capacity: 1, window: '1m' });
        kit.on('rate:refused', ({ ids, policies }) => [ids, policies]);
        // @ts-expect-error no such event
        kit.on('rate:nonsense', () => {});
      `,
      'borrowed-clients.ts': `
        import { Cluster, Redis } from 'ioredis';
        import { Cluster as Cluster5, Redis as Redis5 } from 'ioredis5';
        import { Cluster as ValkeyCluster, Redis as Valkey } from 'iovalkey';
        import { createClient, createClientPool, createCluster, RESP_TYPES } from 'redis';
        import * as redis5 from 'redis5';
        import { createRedisKit, type BorrowedClient, type KitOptions } from 'redis-kit';

        // kit.client has the type of the client.
        const strings: Promise<string | null>[] = [
          createRedisKit({ client: createClient() }).client.get('x'),
          createRedisKit({ client: createClient({ RESP: 2, disableOfflineQueue: true }) }).client.get('x'),
          createRedisKit({ client: await createClient().connect() }).client.get('x'),
          createRedisKit({ client: createClientPool() }).client.get('x'),
          createRedisKit({ client: createCluster({ rootNodes: [] }) }).client.get('x'),
          createRedisKit({ client: redis5.createClient() }).client.get('x'),
          createRedisKit({ client: redis5.createClientPool() }).client.get('x'),
          createRedisKit({ client: redis5.createCluster({ rootNodes: [] }) }).client.get('x'),
          createRedisKit({ client: new Redis() }).client.get('x'),
          createRedisKit({ client: new Redis({ sentinels: [{ host: 'a' }], name: 'm' }) }).client.get('x'),
          createRedisKit({ client: new Redis({ protocol: 3, replyMapping: 'resp3' }) }).client.get('x'),
          createRedisKit({ client: new Cluster([]) }).client.get('x'),
          createRedisKit({ client: new Redis5() }).client.get('x'),
          createRedisKit({ client: new Cluster5([]) }).client.get('x'),
          createRedisKit({ client: new Valkey() }).client.get('x'),
          createRedisKit({ client: new ValkeyCluster([]) }).client.get('x'),
        ];
        const bytes: Promise<Buffer | null> = createRedisKit({
          client: createClient().withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }),
        }).client.get('x');
        createRedisKit({ client: new Cluster([]) }).namespace('a').client.nodes('master');
        class Own extends Redis {
          readonly label = 'own';
        }
        createRedisKit({ client: new Own() }).client.label.length;

        // Clients may be kept under a common type, and may be absent.
        const lent: BorrowedClient[] = [createClient(), createClientPool(), new Redis(), new Cluster([]), new Valkey(), new Redis5()];
        for (const client of lent) createRedisKit<BorrowedClient>({ client });
        const options: KitOptions<Redis> = { client: undefined, prefix: 'a' };
        createRedisKit({ client: process.env.OWN === undefined ? undefined : new Redis() });

        // @ts-expect-error a promise of a client
        createRedisKit({ client: createClient().connect() });
        // @ts-expect-error a pipeline
        createRedisKit({ client: new Redis().pipeline() });
        // @ts-expect-error a transaction
        createRedisKit({ client: createClient().multi() });
        // @ts-expect-error a class
        createRedisKit({ client: Redis });
      `,
      'logs.ts': `
        import type { IncomingMessage } from 'node:http';
        import { createRedisKit, type Background, type Hook, type Log, type LogEntry } from 'redis-kit';
        const kit = createRedisKit();
        interface Message { readonly text: string; readonly by?: string }
        const shout: Hook<{ readonly id: string; event: Message }, string | undefined> = (context, next) => {
          context.event = { text: context.event.text.toUpperCase() };
          return next();
        };
        const log: Log<Message> = kit.log<Message>('chat', {
          ttl: '1h',
          onAppend: [shout, async ({ event }, next) => (event.text === '' ? undefined : next())],
          onRead: [async (_context, next) => (await next()).filter(({ event }) => event.by !== 'eve')],
          writeBehind: { onFull: 'drop-oldest', onError: (error, { id, event }) => console.error(error, id, event.text) },
        });
        const any: Log<unknown> = log;
        const cursor: string | undefined = await log.append('room', { text: 'a' });
        const entries: LogEntry<Message>[] = await log.after('room', cursor ?? '0-0', 10);
        const stop: () => Promise<void> = await any.follow('room', ({ event }) => event, { after: entries[0]?.cursor });
        await kit.log('json', { ttl: null }).append('room', { numbers: [1, null] });
        // @ts-expect-error no such property
        await log.append('room', { txt: 'a' });
        // @ts-expect-error the lifetime is a decision
        kit.log('chat', {});
        log.middleware((req, res) => (req.path === '/' ? null : { id: req.path, event: { text: String(res.statusCode) } }));
        log.middleware<IncomingMessage>((req) => ({ id: String(req.url), event: { text: '' } }));
        const jobs: Background = kit.background({ onError: (error, { key }) => console.error(key, error) });
        await jobs.push('a', async ({ signal }) => signal.throwIfAborted());
        const { running, queued, failed } = jobs.stats();
        console.log(stop, running + queued + failed);
      `,
      'sessions.ts': `
        import express from 'express';
        import { createSecretKey, randomBytes } from 'node:crypto';
        import expressSession from 'express-session';
        import { createRedisKit, type SessionInfo, type SessionStore } from 'redis-kit';
        const kit = createRedisKit();
        const store: SessionStore = kit.sessionStore({ compatible: 'connect-redis', prefix: 'sess:' });
        expressSession({ store, secret: 'x' });
        const cookie = new expressSession.Cookie();
        const found: Promise<expressSession.SessionData | null> = store.get('id');
        const done: Promise<null>[] = [store.set('id', { cookie }), store.touch('id', { cookie }), store.destroy('id'), store.clear()];
        const all: Promise<(expressSession.SessionData & { readonly id: string })[]> = store.all();
        const ids: Promise<string[]> = store.ids();
        const length: Promise<number> = store.length();
        store.get('id', (error, session) => [error, session?.userId]).then(() => undefined);
        store.set('id', { cookie }, (error) => console.log(error));
        store.touch('id', { cookie }, () => console.log('touched'));
        store.length((error, count) => [error, count?.toFixed()]);
        // @ts-expect-error the ids are an array
        const wrong: Promise<number> = store.ids();
        kit.session({ secret: randomBytes(32), touchAfter: 0, maxBytes: 65_536 });
        kit.session({ secret: [randomBytes(32), new Uint8Array(32), createSecretKey(randomBytes(32)), 'a former secret'] });
        // @ts-expect-error a number is no secret
        kit.session({ secret: 5 });
        kit.sessionStore({ touchAfter: 0, maxBytes: 65_536 });
        kit.remember('rates', { ttl: '1m', maxBytes: 65_536 }, () => 1);
        kit.warm([{ key: 'rates', maxBytes: 65_536, load: () => 1 }]);
        express().get('/', async (req, res) => {
          await req.session.login('ann', { data: { role: 'admin' }, remember: '30d' });
          await req.session.save();
          await req.session.reload();
          await req.session.regenerate();
          req.session.save().catch(() => undefined);
          req.session.save((error) => console.log(error));
          req.session.regenerate((error) => console.log(error)).then(() => undefined);
          await req.session.destroy();
          await req.session.logout();
          const user: string | undefined = req.session.userId;
          const list: SessionInfo[] = await kit.sessions.list('ann');
          const ended: number = await kit.sessions.revokeAll('ann', { except: kit.sessions.handleOf(req) });
          res.json({ user, list, ended });
        });
        // @ts-expect-error users have ids that are strings
        express().get('/', (req) => void req.session.login(7));
      `,
      'stored.ts': `
        import express, { type Request } from 'express';
        import { createRedisKit, type Documents, type Members, type StateScope } from 'redis-kit';
        const kit = createRedisKit();
        interface Cart { items: string[] }
        type Member = Request & { readonly member: string };
        const state = kit.state<Member>({ app: { ttl: null }, user: { id: (req) => req.member, ttl: '1d' }, session: { ttl: '1h' }, touch: 'read' });
        express().use(state).get('/', async (req, res) => {
          const visits: number = await req.state.app.increment('visits');
          const cart: Cart | undefined = await req.state.session.get<Cart>('cart');
          const next: Cart = { items: [...(cart?.items ?? []), 'tea'] };
          await req.state.session.set('cart', next);
          await req.state.user?.patch({ next, visits, note: null });
          // @ts-expect-error a request may have no user
          await req.state.user.get('note');
          // @ts-expect-error undefined is no JSON
          await req.state.app.set('note', undefined);
          res.json(await req.state.app.all());
        });
        const scope: StateScope = state.user('ann');
        const carts: Documents<Cart> = kit.documents<Cart>('carts', { ttl: '7d', maxBytes: 1_000 });
        const changed: Promise<Cart | undefined> = carts.update('ann', (now) => (now === undefined ? { items: [] } : undefined));
        carts.update('ann', async (now) => now);
        // @ts-expect-error no cart
        carts.set('ann', { products: [] });
        // @ts-expect-error ttl is required
        kit.documents('carts', {});
        const online: Members = kit.members('online', { ttl: null });
        const added: Promise<boolean> = online.add('room', 'ann', { ttl: '10s' });
        online.list('room', { limit: 5 }).then(({ members, next }) => online.list(members[0] ?? '', { after: next }));
      `,
      'requests.ts': `
        import { createServer, type IncomingMessage } from 'node:http';
        import { createRedisKit } from 'redis-kit';
        import express, { type Request } from 'express';
        const kit = createRedisKit();
        type Member = Request & { readonly member: string };
        createServer((req) => kit.sessions.handleOf(req));
        kit.session({ secret: 'x', cookie: { maxAge: '1h' } });
        const WINDOW = { algorithm: 'sliding-window', window: '1m' } as const;
        kit.rateLimit<Member>({ ...WINDOW, name: 'a', limit: (req) => req.member.length, key: (req) => req.member });
        kit.rateLimit({ ...WINDOW, limit: 1, key: (req: Member) => req.member, refundWhen: async (_req, res) => res.statusCode > 499 });
        kit.rateLimit({ policies: [{ ...WINDOW, limit: 1, key: (req) => req.ip ?? null }], handler: (_req, res, _next, { limit }) => res.json(limit) });
        kit.idempotency<Member>({ scope: (req) => req.member, handler: (_req, res, _next, { status, reason }) => void res.status(status).send(reason) });
        kit.lock<IncomingMessage>({ key: (req) => req.url ?? null });
        kit.lock({ key: (req) => [req.path, 'all'], wait: '5s' }, async (_req, res, lock) => void res.json([...lock.fences]));
        kit.lock<Member>({ key: (req) => req.member }, (req, _res, { signal }) => fetch(req.member, { signal }));
        kit.concurrency<Member>({ key: (req) => req.member, limit: (req) => req.member.length, handler: (_req, res, _next, { limit }) => void res.json(limit) });
        const total: Promise<number> = kit.locks.using(['a', 'b'], { wait: '1s', metadata: { by: 1 } }, async (lock) => lock.fences.size);
        kit.on('lock:waited', ({ keys, waitedMs }) => [keys, waitedMs]);
        kit.cache<Member>({ ttl: '1m', skip: (req) => req.member === 'ann' });
        kit.session<IncomingMessage>({ secret: 'x', genid: (req) => String(req.socket.remotePort) });
        // @ts-expect-error Express's request has no such property
        kit.lock({ key: (req) => req.member });
        express().post('/', kit.lock<Member>({ key: (req) => req.member }), (_req, res) => void res.end());
      `,
    });
  });
});
