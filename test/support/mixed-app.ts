import { setTimeout as pause } from 'node:timers/promises';
import express from 'express';
import { onTestFinished } from 'vitest';
import type { KitOptions, RedisKit } from '../../src/index.ts';
import { kitForTest } from './kits.ts';
import { until } from './until.ts';
import { type Answer, send, serve } from './web.ts';

/** What a client sees of each feature. */
export interface Round {
  /** `works`: the session of the last round was loaded and is saved. */
  readonly session: 'works' | 'answers 503';
  readonly rateLimit: 'works' | 'decides in this process';
  readonly cache: 'works' | 'runs the handler';
  readonly lock: 'works' | 'answers 503';
  readonly idempotency: 'works' | 'answers 503';
  /** An in-process decision looks the same. */
  readonly concurrency: 'runs';
}

export const ALL_WORKS: Round = {
  session: 'works',
  rateLimit: 'works',
  cache: 'works',
  lock: 'works',
  idempotency: 'works',
  concurrency: 'runs',
};

/** The failure policies that docs/outages.md lists as defaults. */
export const BY_POLICY: Round = {
  session: 'answers 503',
  rateLimit: 'decides in this process',
  cache: 'runs the handler',
  lock: 'answers 503',
  idempotency: 'answers 503',
  concurrency: 'runs',
};

export interface MixedApp {
  readonly kit: RedisKit;
  /** Sends a request to each feature. */
  round(): Promise<Round>;
  /** Resolves when each feature works; rejects after `deadlineMs`. */
  expectRecovery(deadlineMs?: number): Promise<void>;
}

/** Serves one route per feature, with default failure policies. */
export async function startMixedApp(options: KitOptions): Promise<MixedApp> {
  const kit = kitForTest({ commandTimeout: '500ms', ...options });
  const address = await serve(appOf(kit));
  let cookie: string | undefined;
  let key = 0;

  async function session(): Promise<Round['session']> {
    const headers = cookie === undefined ? {} : { cookie };
    const answer = await send(`${address}/session`, { headers });
    // An evicted or a new session gets another cookie.
    cookie = answer.headers['set-cookie']?.[0]?.split(';')[0] ?? cookie;
    return answer.status === 200 ? 'works' : refusal(answer);
  }

  async function round(): Promise<Round> {
    const get = (path: string) => send(`${address}${path}`);
    const headers = { 'idempotency-key': `key-${key++}` };
    const [own, limited, cached, locked, once, slot] = await Promise.all([
      session(),
      get('/limit'),
      get('/cache').then(() => get('/cache')),
      get('/lock'),
      send(`${address}/once`, { method: 'POST', headers }),
      get('/slot'),
    ]);
    for (const answer of [limited, cached, slot]) expectStatus(answer, 200);
    return {
      session: own,
      rateLimit: limited.text === 'true' ? 'decides in this process' : 'works',
      cache: cached.headers.age === undefined ? 'runs the handler' : 'works',
      lock: locked.status === 200 ? 'works' : refusal(locked),
      idempotency: once.status === 200 ? 'works' : refusal(once),
      concurrency: 'runs',
    };
  }

  return {
    kit,
    round,
    async expectRecovery(deadlineMs = 10_000) {
      let last: Round | undefined;
      const works = async () => {
        last = await round();
        return Object.entries(ALL_WORKS).every(
          ([feature, state]) => Reflect.get(last ?? {}, feature) === state,
        );
      };
      await until('all features work', works, deadlineMs).catch((error: unknown) => {
        throw new Error(`not recovered: ${JSON.stringify(last)}`, { cause: error });
      });
    },
  };
}

function appOf(kit: RedisKit) {
  const app = express();
  app.get(
    '/session',
    kit.session({ secret: 'a secret for this test', cookie: { secure: false } }),
    (req, res) => {
      Object.assign(req.session, { views: Number(Reflect.get(req.session, 'views') ?? 0) + 1 });
      res.send('fine');
    },
  );
  const limit = kit.rateLimit({ algorithm: 'sliding-window', limit: 1_000_000, window: '1m' });
  app.get('/limit', limit, (req, res) => void res.send(String(req.rateLimit?.degraded)));
  // Neither held in this process nor shared with the request before, so that each hit is read from Redis.
  const cache = kit.cache({ ttl: '1m', local: false, singleFlight: false });
  app.get('/cache', cache, (_req, res) => void res.send('made by the handler'));
  app.get('/lock', kit.lock({ key: () => 'a', wait: '5s' }), (_req, res) => void res.send('fine'));
  app.post('/once', kit.idempotency(), (_req, res) => void res.send('fine'));
  app.get('/slot', kit.concurrency({ limit: 1_000, name: 'mixed' }), (_req, res) => void res.send('fine'));
  return app;
}

function refusal(answer: Answer): 'answers 503' {
  expectStatus(answer, 503);
  return 'answers 503';
}

function expectStatus(answer: Answer, status: number): void {
  if (answer.status !== status)
    throw new Error(`expected ${status}, received ${answer.status}: ${answer.text}`);
}

/** A count in Redis, which each of many commands increases while a test does its work. */
export interface LoadOfCounts {
  /** Resolves once this many more commands were answered. */
  counted(more: number): Promise<void>;
  stop(): Promise<void>;
  /** Ends the load. Rejects if a command that was answered has not run, or if a command ran twice. */
  expectAtMostOnce(): Promise<{ readonly unknown: number }>;
}

const PARALLEL = 8;

export function countUnderLoad(kit: RedisKit): LoadOfCounts {
  const limiter = kit.limiter({ algorithm: 'sliding-window', limit: 1_000_000, window: '1h', name: 'load' });
  let counted = 0;
  let unknown = 0;
  let isStopped = false;
  // One id per loop: calls for one id at the same moment share a command.
  const loop = async (id: string) => {
    while (!isStopped) {
      const { degraded } = await limiter.consume(id);
      if (degraded) unknown++;
      else counted++;
      // Without a pause, the load would take a whole core.
      await pause(degraded ? 5 : 1);
    }
  };
  const ids = Array.from({ length: PARALLEL }, (_, index) => `load-${index}`);
  const loops = Promise.all(ids.map(loop));
  const stop = async () => {
    isStopped = true;
    await loops;
  };
  loops.catch(() => undefined);
  onTestFinished(stop);
  return {
    stop,
    counted(more) {
      const goal = counted + more;
      return until(`${more} more commands were answered`, () => counted >= goal);
    },
    async expectAtMostOnce() {
      await stop();
      const decisions = await Promise.all(ids.map((id) => limiter.peek(id)));
      const ran = decisions.reduce((sum, { used }) => sum + used, 0);
      if (ran < counted) throw new Error(`${counted} commands were answered, and only ${ran} ran`);
      if (ran > counted + unknown) throw new Error(`${counted + unknown} commands were sent, and ${ran} ran`);
      return { unknown };
    },
  };
}
