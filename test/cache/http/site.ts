import type { OutgoingHttpHeader } from 'node:http';
import express, { type Application, type RequestHandler } from 'express';
import { expect } from 'vitest';
import type { CacheOptions, KitEvents, RedisKit } from '../../../src/index.ts';
import { eventsOf } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { type Answer, type Sent, send, serve } from '../../support/web.ts';
import { agingKit } from '../aging.ts';

type Headers = Readonly<Record<string, OutgoingHttpHeader | undefined>>;

/** A site behind a cache, the number of its handler's runs, and a function that sends a request. */
export interface Site {
  readonly kit: RedisKit;
  readonly address: string;
  runs(): number;
  ask(path?: string, headers?: Sent['headers'], method?: string): Promise<Answer>;
  /** Advances the clock of the stored responses. */
  pass(ms: number): Promise<void>;
  readonly stored: readonly KitEvents['cache:stored'][];
  readonly skipped: readonly KitEvents['cache:skipped'][];
  /** Resolves when this many responses have been stored. */
  storedAll(count: number): Promise<void>;
}

export interface SiteOptions extends CacheOptions {
  /** Middleware above the cache, for each request. */
  readonly above?: readonly RequestHandler[] | ((kit: RedisKit) => readonly RequestHandler[]);
  /** Middleware between the cache and the handler. */
  readonly below?: readonly RequestHandler[];
  readonly makeApp?: () => Application;
}

export async function site(url: string, options: SiteOptions, handler: RequestHandler): Promise<Site> {
  const { above = [], below = [], makeApp = express, ...cache } = options;
  const { kit, local, pass } = agingKit(url);
  const stored = eventsOf(kit, 'cache:stored');
  const skipped = eventsOf(kit, 'cache:skipped');
  let runs = 0;
  const app = makeApp().set('env', 'test').disable('x-powered-by');
  for (const middleware of typeof above === 'function' ? above(kit) : above) app.use(middleware);
  app.use(kit.cache({ local, ...cache }));
  for (const middleware of below) app.use(middleware);
  app.use((req, res, next) => {
    runs++;
    return handler(req, res, next);
  });
  const address = await serve(app);
  return {
    kit,
    address,
    stored,
    skipped,
    pass,
    runs: () => runs,
    ask: (path = '/a', headers = {}, method = 'GET') => send(`${address}${path}`, { method, headers }),
    storedAll: (count) => until(`${count} responses are stored`, () => stored.length >= count),
  };
}

/** A handler that responds with these headers and with a new body each time. */
export function says(headers: Headers, { status = 200, body = 'body' } = {}): RequestHandler {
  return (_req, res) => {
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) res.setHeader(name, value);
    res.statusCode = status;
    res.end(body);
  };
}

/** Whether a second request is answered from the stored response to the first. */
export async function isStored(url: string, options: SiteOptions, handler: RequestHandler): Promise<boolean> {
  const { ask, runs } = await site(url, options, handler);
  const first = await ask();
  const second = await ask();
  expect([second.status, second.text]).toEqual([first.status, first.text]);
  expect(second.headers.age !== undefined && first.headers.age === undefined).toBe(runs() === 1);
  return runs() === 1;
}

/** The members of a list field, without those of caches upstream. */
export function lastStatus({ headers }: Answer): string {
  return String(headers['cache-status']).split(', ').at(-1) ?? '';
}

/** An HTTP-date in this many seconds. */
export function dateIn(seconds: number): string {
  return new Date(Date.now() + seconds * 1_000).toUTCString();
}
