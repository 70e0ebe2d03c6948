import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { setImmediate as nextTurn } from 'node:timers/promises';
import express, { type RequestHandler } from 'express';
import { beforeEach, describe, expect, it } from 'vitest';
import { inTurnBatch, isInTurnBatch, outcomeInTurnBatch } from '../../src/http/turn-batch.ts';
import type { RedisKit } from '../../src/index.ts';
import { redisUrl } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

type Res = Parameters<typeof inTurnBatch>[0];

const aResponse = () => ({}) as Res;

/** Calls `inTurnBatch` several times in one turn, and waits for the end of the turn. Returns when each work ran. */
async function works(count: number): Promise<('at once' | 'in the batch')[]> {
  const ran: ('at once' | 'in the batch')[] = [];
  let isOver = false;
  for (let each = 0; each < count; each++) {
    inTurnBatch(aResponse(), () => ran.push(isOver ? 'in the batch' : 'at once'));
  }
  isOver = true;
  await nextTurn();
  return ran;
}

/** Lets requests arrive alone until the next ones run at once. */
async function alone(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await works(1);
  while ((await works(1))[0] !== 'in the batch');
}

async function crowd(): Promise<void> {
  await works(100);
}

describe('work at the end of a turn', () => {
  beforeEach(alone);

  it('work that comes alone runs at once, except one of 16', async () => {
    const ran = [];
    for (let turn = 0; turn < 48; turn++) ran.push(...(await works(1)));
    expect(ran.filter((when) => when === 'at once')).toHaveLength(45);
  });

  it('once several works have come in one turn, works run together at the end of their turn', async () => {
    await crowd();
    expect(await works(3)).toEqual(['in the batch', 'in the batch', 'in the batch']);
  });

  it('a turn with one work ends this', async () => {
    await crowd();
    await works(1);
    expect(await works(1)).toEqual(['at once']);
  });

  it('work inside of work runs at once', async () => {
    await crowd();
    const ran: string[] = [];
    for (const name of ['a', 'b']) {
      inTurnBatch(aResponse(), () => {
        ran.push(name);
        inTurnBatch(aResponse(), () => ran.push(`inside of ${name}`));
      });
    }
    await nextTurn();
    expect(ran).toEqual(['a', 'inside of a', 'b', 'inside of b']);
  });

  it('a response is in the batch until its work runs', async () => {
    await crowd();
    const res = aResponse();
    const [before, during] = await new Promise<readonly boolean[]>((resolve) => {
      inTurnBatch(res, () => resolve([isWaiting, isInTurnBatch(res)]));
      const isWaiting = isInTurnBatch(res);
    });
    expect([before, during]).toEqual([true, false]);
  });

  it('the outcome of work is its result, the result of its promise, or its error', async () => {
    await crowd();
    const outcomes = await Promise.allSettled([
      outcomeInTurnBatch(aResponse(), () => 1),
      outcomeInTurnBatch(aResponse(), async () => 2),
      outcomeInTurnBatch(aResponse(), () => {
        throw new Error('three');
      }),
    ]);
    expect(outcomes).toEqual([
      { status: 'fulfilled', value: 1 },
      { status: 'fulfilled', value: 2 },
      { status: 'rejected', reason: new Error('three') },
    ]);
  });
});

const LIMIT = { algorithm: 'sliding-window', limit: 1, window: '1h' } as const;
const TENANT = { ...LIMIT, limit: 1_000, key: () => 'tenant', reserve: { units: 1_000 } };

/** Middleware that answers or continues without Redis, and the status of its responses. */
const KNOWN: Record<string, [status: number, (kit: RedisKit) => RequestHandler]> = {
  'a known refusal': [429, (kit) => kit.rateLimit(LIMIT)],
  'a reserved unit': [200, (kit) => kit.rateLimit(TENANT)],
  'a local hit': [200, (kit) => kit.cache({ ttl: '1h' })],
  'a request without a session': [200, (kit) => kit.session({ secret: 'a secret for this test' })],
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
        res.writeHead = function (...args: never[]) {
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
      // One request of 16 finds out that others arrive with it.
      await pipelined(address, 40);
      order.length = 0;
      await pipelined(address, 3);
      expect(order).toEqual([...Array(3).fill('arrives'), ...Array(3).fill(`sent ${status}`)]);
    },
  );

  it('the front answers after all requests of the turn have arrived, if they arrive together', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const order: string[] = [];
    const app = express().use((_req, res) => {
      order.push('runs');
      res.send('made');
    });
    const front = kit.front(app);
    const address = await serve((req, res) => {
      order.push('arrives');
      front(req, res);
    });
    await pipelined(address, 40);
    order.length = 0;
    await pipelined(address, 2);
    expect(order).toEqual(['arrives', 'arrives', 'runs', 'runs']);
  });
});

/** Sends requests in one piece on one connection, and waits for their responses. */
async function pipelined(address: string, count: number): Promise<void> {
  const { host, hostname, port } = new URL(address);
  const socket = connect(Number(port), hostname);
  const request = `GET / HTTP/1.1\r\nHost: ${host}\r\n`;
  socket.write(`${`${request}\r\n`.repeat(count - 1)}${request}Connection: close\r\n\r\n`);
  await text(socket);
}
