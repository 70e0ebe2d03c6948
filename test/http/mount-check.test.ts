import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { getRequestListener, serve as serveHono } from '@hono/node-server';
import express from 'express';
import { Hono } from 'hono';
import Koa from 'koa';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';
import { send, serve } from '../support/web.ts';
import { APPS, onError } from './frameworks.ts';

type Middleware = (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => void;

/** Each feature's factory, such as `kit.lock`, and a middleware that the factory returns. */
const FEATURES: Readonly<
  Record<string, (kit: RedisKit) => { readonly factory: unknown; readonly made: Middleware }>
> = {
  session: (kit) => ({ factory: kit.session, made: kit.session({ secret: 'a secret of the test' }) }),
  rateLimit: (kit) => ({
    factory: kit.rateLimit,
    made: kit.rateLimit({ algorithm: 'sliding-window', limit: 9, window: '1m' }),
  }),
  cache: (kit) => ({ factory: kit.cache, made: kit.cache({ ttl: '1m' }) }),
  lock: (kit) => ({ factory: kit.lock, made: kit.lock({ key: () => 'a' }) }),
  concurrency: (kit) => ({ factory: kit.concurrency, made: kit.concurrency({ limit: 1 }) }),
  idempotency: (kit) => ({ factory: kit.idempotency, made: kit.idempotency() }),
};

const featureNames = Object.keys(FEATURES);

function featureForTest(name: string) {
  const kit = kitForTest({ url: 'memory:' });
  const feature = FEATURES[name]?.(kit);
  if (feature === undefined) throw new Error(`there is no feature ${name}`);
  return feature;
}

/** Collects uncaught errors, which vitest would report for the whole run and not for this test. */
function uncaughtForTest(): readonly unknown[] {
  const uncaught: unknown[] = [];
  const note = (error: unknown) => void uncaught.push(error);
  process.on('uncaughtException', note).on('unhandledRejection', note);
  onTestFinished(() => void process.off('uncaughtException', note).off('unhandledRejection', note));
  return uncaught;
}

/** Mounts something as a middleware of Koa or Hono; resolves to the error of the app. */
const FOREIGN: Readonly<Record<string, (middleware: never) => Promise<string>>> = {
  async koa(middleware) {
    const app = new Koa();
    const errors: string[] = [];
    app.on('error', (error: Error) => errors.push(error.message));
    app.use(middleware).use((ctx) => {
      ctx.body = 'reached';
    });
    const url = await serve(app.callback());
    expect((await send(url)).status).toBe(500);
    expect((await send(url)).status, 'the process goes on').toBe(500);
    return errors[0] ?? '';
  },
  async hono(middleware) {
    const app = new Hono();
    let message = '';
    app.onError((error, context) => {
      message = error.message;
      return context.text('failed', 500);
    });
    app.use(middleware).get('/', (context) => context.text('reached'));
    const server = serveHono({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server;
    onTestFinished(() => void server.close());
    const address = await new Promise<string>((resolve) => {
      const tell = () => resolve(`http://127.0.0.1:${(server.address() as { port: number }).port}`);
      if (server.listening) tell();
      else server.once('listening', tell);
    });
    expect((await send(address)).status).toBe(500);
    expect((await send(address)).status, 'the process goes on').toBe(500);
    return message;
  },
};

describe('a middleware of the kit in another framework', () => {
  it.each(featureNames)('kit.%s in Koa answers 500 with an error that names koa-connect', async (name) => {
    const uncaught = uncaughtForTest();
    const { factory, made } = featureForTest(name);
    const message = await FOREIGN.koa?.(made as never);
    expect(message).toContain(`kit.${name} is a middleware for (req, res, next)`);
    expect(message).toContain(
      `app.use(connect(kit.${name}({ ... }))), where \`connect\` is the package koa-connect`,
    );
    expect(await FOREIGN.koa?.(factory as never)).toMatch(
      /given a request of Koa .*; call it: .* koa-connect$/,
    );
    await new Promise(setImmediate);
    expect(uncaught).toEqual([]);
  });

  it.each(featureNames)(
    'kit.%s in Hono answers 500 with an error that says how to mount it',
    async (name) => {
      const uncaught = uncaughtForTest();
      const { factory, made } = featureForTest(name);
      const message = await FOREIGN.hono?.(made as never);
      expect(message).toContain(`kit.${name} is a middleware for (req, res, next)`);
      expect(message).toContain('`getRequestListener` is of @hono/node-server');
      expect(await FOREIGN.hono?.(factory as never)).toMatch(/given a request of Hono .*; call it: /);
      await new Promise(setImmediate);
      expect(uncaught).toEqual([]);
    },
  );

  it('a Hono app below Express, as the error suggests, has the session and the limit of the kit', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const hono = new Hono<{ Bindings: { incoming: express.Request } }>();
    hono.get('/', ({ env, json }) => {
      const { session } = env.incoming;
      const visits = Number(Reflect.get(session, 'visits') ?? 0) + 1;
      Reflect.set(session, 'visits', visits);
      return json({ visits });
    });
    const app = express()
      .use(kit.rateLimit({ algorithm: 'sliding-window', limit: 2, window: '1m' }))
      .use(kit.session({ secret: 'a secret of the test' }))
      .use(getRequestListener(hono.fetch));
    const url = await serve(app);
    const first = await send(url);
    expect([first.status, first.text]).toEqual([200, '{"visits":1}']);
    const [cookie = ''] = first.headers['set-cookie'] ?? [];
    const second = await send(url, { headers: { cookie: cookie.split(';')[0] ?? '' } });
    expect([second.status, second.text]).toEqual([200, '{"visits":2}']);
    expect((await send(url)).status).toBe(429);
  });
});

describe.each(APPS)('a feature that is mounted in %s without being called', (_framework, makeApp) => {
  it.each(featureNames)('kit.%s fails with an error that says to call it', async (name) => {
    const { factory } = featureForTest(name);
    const app = makeApp();
    app.use(factory as Middleware);
    onError(app, (error, res) => void res.end(error.message));
    expect((await send(await serve(app))).text).toBe(
      `kit.${name} was given a request of Express in place of its options; call it: app.use(kit.${name}({ ... }))`,
    );
  });
});

it.each(featureNames)('kit.%s throws at once if its middleware is called without next', async (name) => {
  const { made } = featureForTest(name);
  const server = createServer((req, res) => {
    try {
      Reflect.apply(made, undefined, [req, res]);
    } catch (error) {
      res.end((error as Error).message);
    }
  });
  const url = await serve((req, res) => void server.emit('request', req, res));
  expect((await send(url)).text).toContain(
    `kit.${name} is a middleware for (req, res, next) and was called without`,
  );
});
