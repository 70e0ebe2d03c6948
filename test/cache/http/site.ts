import type { OutgoingHttpHeader } from 'node:http';
import express, { type Application, type RequestHandler } from 'express';
import { expect } from 'vitest';
import type { CacheOptions, KitEvents, RedisKit } from '../../../src/index.ts';
import { eventsOf } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { type Answer, type Sent, send, serve } from '../../support/web.ts';
import { agingKit } from '../aging.ts';

type Headers = Readonly<Record<string, OutgoingHttpHeader | undefined>>;

/** A site whose pages are cached, how often its handler ran, and a way to ask it. */
export interface Site {
  readonly kit: RedisKit;
  readonly address: string;
  runs(): number;
  ask(path?: string, headers?: Sent['headers'], method?: string): Promise<Answer>;
  /** Makes what is stored so much older. */
  pass(ms: number): Promise<void>;
  readonly stored: readonly KitEvents['cache:stored'][];
  readonly skipped: readonly KitEvents['cache:skipped'][];
  /** Resolves once so many responses were stored in all. */
  storedAll(count: number): Promise<void>;
}

export interface SiteOptions extends CacheOptions {
  /** What stands above the cache, for each request. */
  readonly above?: readonly RequestHandler[] | ((kit: RedisKit) => readonly RequestHandler[]);
  /** What stands between the cache and the handler. */
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

/** A handler that answers with these headers, and with a body of its own. */
export function says(headers: Headers, { status = 200, body = 'body' } = {}): RequestHandler {
  return (_req, res) => {
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) res.setHeader(name, value);
    res.statusCode = status;
    res.end(body);
  };
}

/** Whether a second request is answered from what was stored of the first. */
export async function isStored(url: string, options: SiteOptions, handler: RequestHandler): Promise<boolean> {
  const { ask, runs } = await site(url, options, handler);
  const first = await ask();
  const second = await ask();
  expect([second.status, second.text]).toEqual([first.status, first.text]);
  expect(second.headers.age !== undefined && first.headers.age === undefined).toBe(runs() === 1);
  return runs() === 1;
}

/** The members of a field that is a list, without those of whoever is further away. */
export function lastStatus({ headers }: Answer): string {
  return String(headers['cache-status']).split(', ').at(-1) ?? '';
}

/** An HTTP-date so many seconds from now. */
export function dateIn(seconds: number): string {
  return new Date(Date.now() + seconds * 1_000).toUTCString();
}
