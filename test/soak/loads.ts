import { setTimeout as pause } from 'node:timers/promises';
import express, { type Request } from 'express';
import { ConnectionError, type RedisKit } from '../../src/index.ts';
import { type Answer, type Sent, send, serve } from '../support/web.ts';
import type { History } from './history.ts';
import type { Random } from './random.ts';

export const LIMIT = { limit: 20, windowMs: 1_000 };
const SLOTS = 3;

/** Another process may serve a local copy until it notices that its subscriber is dead. */
const PURGE_REACHES_OTHERS_MS = 8_000;

export interface LoadContext {
  readonly kits: readonly RedisKit[];
  /** The address of the server of each kit. */
  readonly addresses: readonly string[];
  readonly history: History;
  readonly random: Random;
  readonly isOver: () => boolean;
  readonly violations: string[];
}

type Load = (context: LoadContext, worker: number) => Promise<void>;

const now = () => performance.now();

/** Runs until the soak is over; a load that throws is a violation. */
export async function runLoads(context: LoadContext): Promise<void> {
  const all = Object.entries(LOADS).flatMap(([name, { load, workers }]) =>
    Array.from({ length: workers }, (_, worker) =>
      load(context, worker).catch((error: unknown) => {
        context.violations.push(`the load '${name}' failed: ${(error as Error).stack}`);
      }),
    ),
  );
  await Promise.all(all);
}

/** The app of one kit, for the loads that need HTTP. */
export function serveKit(
  kit: RedisKit,
  { history, violations, random }: Omit<LoadContext, 'addresses' | 'kits' | 'isOver'>,
  shared: Shared,
) {
  const app = express();
  const atOrder = { scope: () => 'soak', fingerprint: (req: Request) => req.url, lease: '20s' } as const;
  app.post('/orders/:key', kit.idempotency({ ...atOrder, retention: '1m' }), async (req, res) => {
    const run = ++shared.runs;
    history.add('order', { key: req.params.key, kind: 'run', run });
    await pause(random(20));
    res.send(`run ${run}`);
  });
  const jobs = { key: () => 'jobs', limit: SLOTS, wait: '1s', lease: '5s', onError: 'deny' } as const;
  app.post('/jobs', kit.concurrency(jobs), async (_req, res) => {
    if (++shared.running > SLOTS) violations.push(`${shared.running} jobs ran at once`);
    await pause(random(30));
    shared.running--;
    res.send('done');
  });
  app.use(kit.session({ secret: 'a secret of the soak', idle: '5m', touchAfter: 0 }));
  app.post('/login/:user', async (req, res) => {
    await req.session.login(req.params.user, { data: { n: 0 } });
    res.send('in');
  });
  app.post('/count', (req, res) => {
    const session = req.session as { userId?: string; n?: number };
    const seen = session.userId === undefined ? undefined : (session.n ?? 0);
    if (seen !== undefined) session.n = seen + 1;
    res.json({ seen });
  });
  app.post('/logout', async (req, res) => {
    await req.session.logout();
    res.send('out');
  });
  const failed: express.ErrorRequestHandler = (error, _req, res, _next) => {
    if (error.status !== 503) violations.push(`a handler failed: ${String(error.stack)}`);
    if (!res.headersSent) res.status(error.status ?? 500).send('failed');
  };
  app.use(failed);
  return serve(app);
}

export interface Shared {
  runs: number;
  running: number;
}

/** Sends a request; undefined without a response, which is one that may have been served. */
async function post(url: string, headers: Sent['headers'] = {}): Promise<Answer | undefined> {
  return send(url, { method: 'POST', headers }).catch(() => undefined);
}

function pick<Item>(items: readonly Item[], random: Random): Item {
  const item = items[random(items.length)];
  if (item === undefined) throw new Error('nothing to pick');
  return item;
}

const lockLoad: Load = async ({ kits, random, history, isOver }, worker) => {
  const kit = pick(kits, () => worker % kits.length);
  while (!isOver()) {
    const key = `lock-${random(3)}`;
    const lock = await kit.locks.acquire(key, { wait: '2s', lease: '800ms' }).catch(() => undefined);
    if (lock === undefined) {
      history.count('lock refused');
      await pause(20 + random(50));
      continue;
    }
    const from = now();
    let heldUntil = from;
    const end = from + random(40);
    do {
      await pause(2);
      // Read before the check, so that the lock was certainly held at this time.
      const at = now();
      if (!lock.signal.aborted && lock.remainingMs() > 0) heldUntil = at;
    } while (now() < end);
    history.add('lock', { key, fence: lock.fence, from, heldUntil });
    await lock.release().catch(() => history.count('release failed'));
  }
};

const limitLoad: Load = async ({ kits, random, history, isOver }, worker) => {
  const kit = pick(kits, () => worker % kits.length);
  const policy = { algorithm: 'sliding-window', limit: LIMIT.limit, window: LIMIT.windowMs } as const;
  const name = `soak-${Math.floor(worker / kits.length)}`;
  const { limiter } = kit.rateLimit({ ...policy, name, denyCache: false, onError: 'allow' });
  while (!isOver()) {
    const before = now();
    const { allowed, degraded } = await limiter.consume('all');
    const outcome = degraded ? 'unknown' : allowed ? 'allowed' : 'refused';
    history.add('limit', { id: name, before, after: now(), outcome });
    await pause(5 + random(20));
  }
};

const orderLoad: Load = async ({ addresses, random, history, isOver }, worker) => {
  for (let order = 0; !isOver(); order++) {
    const key = `${worker}-${order}`;
    const headers = { 'Idempotency-Key': `"${key}"` };
    for (let attempt = 0; attempt < 3 && !isOver(); attempt++) {
      const answers = await Promise.all(
        addresses.map((address) => post(`${address}/orders/${key}`, headers)),
      );
      const fine = answers.filter((answer) => answer?.status === 200);
      for (const answer of fine) history.add('order', { key, kind: 'answer', body: answer?.text ?? '' });
      if (fine.length === answers.length) break;
      history.count('order refused');
      await pause(50 + random(100));
    }
  }
};

const sessionLoad: Load = async ({ addresses, random, history, isOver }, worker) => {
  for (let life = 0; !isOver(); life++) {
    const session = `user-${worker}-${life}`;
    const login = await post(`${pick(addresses, random)}/login/${session}`);
    const cookie = login?.headers['set-cookie']?.[0]?.split(';')[0];
    if (login?.status !== 200 || cookie === undefined) {
      history.count('login refused');
      await pause(50);
      continue;
    }
    const step = async (kind: 'count' | 'logout') => {
      const answer = await post(`${pick(addresses, random)}/${kind}`, { cookie });
      const isAnswered = answer?.status === 200;
      const seen = isAnswered && kind === 'count' ? JSON.parse(answer.text).seen : undefined;
      history.add('session', { session, kind, isAnswered, seen });
      await pause(random(20));
    };
    for (let left = 3 + random(10); left > 0 && !isOver(); left--) await step('count');
    await step('logout');
    await step('count');
  }
};

const jobLoad: Load = async ({ addresses, random, history, isOver }) => {
  while (!isOver()) {
    const answer = await post(`${pick(addresses, random)}/jobs`);
    history.count(answer?.status === 200 ? 'job' : 'job refused');
    await pause(random(20));
  }
};

const versions = new Map<string, number>();

const purgeLoad: Load = async ({ kits, random, history, isOver }, worker) => {
  const key = `value-${worker}`;
  const readers = kits.map(async (kit, index) => {
    while (!isOver()) {
      const at = now();
      const local = random(2) === 0 ? (false as const) : undefined;
      const load = () => versions.get(key) ?? 0;
      const version = await kit.remember(key, { ttl: '1m', local }, load).catch(() => undefined);
      if (version !== undefined)
        history.add('purge', { key: `${key} of ${index}`, kind: 'read', at, version });
      await pause(5 + random(20));
    }
  });
  const writer = async () => {
    while (!isOver()) {
      const version = (versions.get(key) ?? 0) + 1;
      versions.set(key, version);
      const index = random(kits.length);
      const purged = await pick(kits, () => index)
        .invalidate({ key })
        .then(
          () => now(),
          () => undefined,
        );
      for (const other of kits.keys()) {
        if (purged === undefined) break;
        const at = purged + (other === index ? 0 : PURGE_REACHES_OTHERS_MS);
        history.add('purge', { key: `${key} of ${other}`, kind: 'purged', at, version });
      }
      await pause(50 + random(100));
    }
  };
  await Promise.all([...readers, writer()]);
};

const countLoad: Load = async ({ kits, random, history, isOver }, worker) => {
  const kit = pick(kits, () => worker % kits.length);
  const { app } = kit.state({ app: { ttl: '5m' }, touch: 'read' });
  const documents = kit.documents<number>('counters', { ttl: '5m' });
  const members = kit.members('counters', { ttl: '5m' });
  const counters: Readonly<Record<string, () => Promise<number | undefined>>> = {
    field: () => app.increment('n'),
    document: () => documents.update('n', (count = 0) => count + 1),
  };
  while (!isOver()) {
    const counter = pick(Object.keys(counters), random);
    const call = counters[counter]?.() ?? Promise.resolve(undefined);
    const record = await call.then(
      (sum) => ({ outcome: 'done', sum }) as const,
      (error) => ({ outcome: error instanceof ConnectionError ? 'refused' : 'unknown' }) as const,
    );
    history.add('counter', { counter, ...record });
    await members.add('n', `${worker} ${random(100)}`).catch(() => history.count('member refused'));
    await pause(random(20));
  }
};

const LOADS: Readonly<Record<string, { readonly load: Load; readonly workers: number }>> = {
  lock: { load: lockLoad, workers: 6 },
  limit: { load: limitLoad, workers: 4 },
  order: { load: orderLoad, workers: 2 },
  session: { load: sessionLoad, workers: 3 },
  job: { load: jobLoad, workers: 6 },
  purge: { load: purgeLoad, workers: 2 },
  counter: { load: countLoad, workers: 4 },
};
