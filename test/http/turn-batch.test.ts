import { IncomingMessage, ServerResponse } from 'node:http';
import { connect, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { setImmediate as nextTurn } from 'node:timers/promises';
import express, { type ErrorRequestHandler, type RequestHandler } from 'express';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { whenUnserved } from '../../src/http/response/unserved.ts';
import { countTurnBatchWorks, runInTurnBatch } from '../../src/http/turn-batch.ts';
import type { RedisKit } from '../../src/index.ts';
import { redisUrl } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

type When = 'at once' | 'at the end';

function anExchange(): Parameters<typeof runInTurnBatch>[0] {
  const req = new IncomingMessage(new Socket());
  return { req, res: new ServerResponse(req) };
}

/** Runs several works in one turn. Resolves to when each of them ran. */
async function runWorks(count: number, exchange = anExchange): Promise<When[]> {
  const ran: When[] = [];
  let isOver = false;
  for (let each = 0; each < count; each++) {
    runInTurnBatch(exchange(), () => ran.push(isOver ? 'at the end' : 'at once'));
  }
  isOver = true;
  await nextTurn();
  return ran;
}

async function makeCrowded(): Promise<void> {
  while ((await runWorks(30)).at(-1) === 'at once');
}

describe('work that needs no reply of Redis', () => {
  beforeEach(async () => {
    while ((await runWorks(1))[0] === 'at the end');
  });

  it('work runs at once while only one comes in a turn', async () => {
    for (let turn = 0; turn < 100; turn++) expect(await runWorks(1)).toEqual(['at once']);
  });

  it('work runs at the end of the turn once several works have come in one turn', async () => {
    await makeCrowded();
    expect(await runWorks(3)).toEqual(['at the end', 'at the end', 'at the end']);
  });

  it('work runs at once again after a turn with one work', async () => {
    await makeCrowded();
    expect(await runWorks(1)).toEqual(['at the end']);
    expect(await runWorks(1)).toEqual(['at once']);
  });

  it('work inside of work runs at once', async () => {
    await makeCrowded();
    const ran: string[] = [];
    for (const name of ['a', 'b']) {
      runInTurnBatch(anExchange(), () => {
        ran.push(name);
        runInTurnBatch(anExchange(), () => ran.push(`inside of ${name}`));
      });
    }
    await nextTurn();
    expect(ran).toEqual(['a', 'inside of a', 'b', 'inside of b']);
  });

  it('each work that waits is counted', async () => {
    await makeCrowded();
    const before = countTurnBatchWorks();
    await runWorks(3);
    expect(countTurnBatchWorks() - before).toBe(3);
  });

  it('each work for the same response runs once, and later turns stay crowded', async () => {
    await makeCrowded();
    const exchange = anExchange();
    expect(await runWorks(3, () => exchange)).toEqual(['at the end', 'at the end', 'at the end']);
    expect(await runWorks(2)).toEqual(['at the end', 'at the end']);
  });

  it.each([
    ['GET', 'released'],
    ['POST', 'ran'],
  ])('a %s whose client has left meanwhile is %s', async (method, outcome) => {
    await makeCrowded();
    const exchange = anExchange();
    exchange.req.method = method;
    const happened: string[] = [];
    whenUnserved(exchange.res, () => happened.push('released'));
    runInTurnBatch(exchange, () => happened.push('ran'));
    exchange.req.socket.destroy();
    await nextTurn();
    expect(happened).toEqual([outcome]);
  });
});

it('a request is handled although fake timers have replaced the global ones', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const address = await serve(kit.front(express().use((_req, res) => void res.send('made'))));
  vi.useFakeTimers({ toFake: ['setImmediate'] });
  onTestFinished(() => void vi.useRealTimers());
  for (let times = 0; times < 20; times++) expect((await send(address)).status).toBe(200);
});

const SECRET = 'a secret for this test';
const LIMIT = { algorithm: 'sliding-window', limit: 1, window: '1h' } as const;
const TENANT = { ...LIMIT, limit: 1_000, key: () => 'tenant', reserve: { units: 1_000 } };

/** Middleware that answers or continues without Redis, and the status of its responses. */
const KNOWN: Record<string, [status: number, (kit: RedisKit) => RequestHandler]> = {
  'a known refusal': [429, (kit) => kit.rateLimit(LIMIT)],
  'a reserved unit': [200, (kit) => kit.rateLimit(TENANT)],
  'a local hit': [200, (kit) => kit.cache({ ttl: '1h' })],
  'a request without a session': [200, (kit) => kit.session({ secret: SECRET })],
};

describe('requests that arrive in one turn', () => {
  it.each(Object.entries(KNOWN))(
    '%s is handled after all requests of the turn have arrived, if they arrive together',
    async (_, [status, makeMiddleware]) => {
      const kit = kitForTest({ url: redisUrl() });
      const order: string[] = [];
      let turns = 0;
      let isAtOnce = false;
      const app = express();
      app.use((_req, res, next) => {
        const turn = turns;
        setImmediate(() => turns++);
        order.push('arrives');
        const { writeHead } = res;
        // The head of a response is created when it is sent.
        res.writeHead = function (this: ServerResponse, ...args: never[]) {
          order.push(`sent ${this.statusCode}`);
          isAtOnce = turn === turns;
          return Reflect.apply(writeHead, this, args);
        } as typeof writeHead;
        next();
      });
      app.use(makeMiddleware(kit), (_req, res) => void res.send('made'));
      const address = await serve(app);
      await until('the kit answers without Redis', async () => {
        await send(address);
        return isAtOnce;
      });
      // One request of 16 counts how many arrive in its turn.
      await sendPipelined(address, 40);
      order.length = 0;
      await sendPipelined(address, 3);
      expect(order).toEqual([...Array(3).fill('arrives'), ...Array(3).fill(`sent ${status}`)]);
    },
  );

  it('the front answers after all requests of the turn have arrived, if they arrive together', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const order: string[] = [];
    const app = express().use(kit.cache({ ttl: '1h', front: true }), (_req, res) => void res.send('made'));
    const front = kit.front(app);
    kit.on('cache:hit', () => order.push('sent'));
    const address = await serve((req, res) => {
      order.push('arrives');
      front(req, res);
    });
    for (let times = 0; times < 3; times++) await send(address);
    await sendPipelined(address, 40);
    order.length = 0;
    await sendPipelined(address, 2);
    expect(order).toEqual(['arrives', 'arrives', 'sent', 'sent']);
  });

  it('the work of several middleware of a request runs in one turn', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const turns: number[] = [];
    let turn = 0;
    const app = express();
    app.use((req, _res, next) => {
      const arrivedIn = turn;
      setImmediate(() => turn++);
      Object.assign(req, { arrivedIn });
      next();
    });
    for (const name of ['one', 'two', 'three']) app.use(kit.rateLimit({ ...TENANT, name }));
    app.use(kit.session({ secret: SECRET }), (req, res) => {
      turns.push(turn - (req as unknown as { arrivedIn: number }).arrivedIn);
      res.end();
    });
    const address = await serve(app);
    await send(address);
    await sendPipelined(address, 40);
    turns.length = 0;
    await sendPipelined(address, 2);
    // The first of two requests is handled after the timer of its own turn, and the second after both.
    expect(turns).toEqual([1, 2]);
  });

  it('an error in a middleware whose work waited goes to the error handler of the app', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const app = express();
    app.use((req, _res, next) => {
      Object.defineProperty(req, 'session', { value: undefined, configurable: false });
      next();
    });
    app.use(kit.session({ secret: SECRET }));
    const failed: unknown[] = [];
    const answerError: ErrorRequestHandler = (error, _req, res, _next) => {
      failed.push(error);
      res.status(500).end();
    };
    app.use(answerError);
    const address = await serve(app);
    await sendPipelined(address, 40);
    await sendPipelined(address, 40);
    expect(failed).toHaveLength(80);
  });
});

/** Sends requests in one piece on one connection, and waits for their responses. */
async function sendPipelined(address: string, count: number): Promise<void> {
  const { host, hostname, port } = new URL(address);
  const socket = connect(Number(port), hostname);
  const request = `GET / HTTP/1.1\r\nHost: ${host}\r\n`;
  socket.write(`${`${request}\r\n`.repeat(count - 1)}${request}Connection: close\r\n\r\n`);
  await text(socket);
}
