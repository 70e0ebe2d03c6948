import { EventEmitter, once } from 'node:events';
import { get } from 'node:http';
import express from 'express';
import request from 'supertest';
import { describe, expect, it, vi } from 'vitest';
import type { RateLimitOptions } from '../../src/index.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { serve } from '../support/web.ts';

const ONE = { algorithm: 'sliding-window', limit: 1, window: '1h', name: 'one', key: () => 'ann' } as const;

function memory() {
  return kitForTest({ url: 'memory:' });
}

/** An app whose error handler answers with the message of the error, and the errors that it got. */
function appWith(kit: ReturnType<typeof memory>, options: RateLimitOptions) {
  const errors: unknown[] = [];
  const limit = kit.rateLimit(options);
  const app = express()
    .use(limit)
    .get('/', (_req, res) => void res.end('ok'))
    .use((error: Error, _req: unknown, res: express.Response, _next: unknown) => {
      errors.push(error);
      if (!res.headersSent) res.status(500).end(error.message);
    });
  return { app, limit, errors };
}

describe('the option `handler`', () => {
  it('the rejection of a `handler` is passed to `next` as an error', async () => {
    const { app, errors } = appWith(memory(), {
      ...ONE,
      handler: async () => Promise.reject(new Error('no template')),
    });
    await request(app).get('/').expect(200);
    await request(app).get('/').expect(500, 'no template');
    expect(errors).toHaveLength(1);
  });

  it('the error of a `handler` that has called `next` is emitted, and `next` is not called again', async () => {
    const kit = memory();
    const emitted = eventsOf(kit, 'error');
    const { app, errors } = appWith(kit, {
      ...ONE,
      handler: (_req, _res, next) => {
        next();
        throw new Error('too late');
      },
    });
    await request(app).get('/').expect(200);
    await request(app).get('/').expect(200, 'ok');
    expect(errors).toEqual([]);
    await until('the failure is emitted', () => emitted.length > 0);
    expect(emitted[0]).toMatchObject({ feature: 'rate', error: { message: 'too late' } });
  });
});

describe('the option `refundWhen`', () => {
  it('the value of a promise that `refundWhen` returns decides on the refund', async () => {
    for (const [answer, used] of [
      [true, 0],
      [false, 1],
    ] as const) {
      const asked = vi.fn(async () => answer);
      const { app, limit } = appWith(memory(), { ...ONE, refundWhen: asked });
      await request(app).get('/').expect(200);
      await until('refundWhen is called', () => asked.mock.calls.length > 0);
      await until('its value is applied', async () => (await limit.limiter.peek('ann')).used === used);
    }
  });

  it('the error of a `refundWhen` is emitted, and the cost is not refunded', async () => {
    const kit = memory();
    const emitted = eventsOf(kit, 'error');
    const { app, limit } = appWith(kit, { ...ONE, refundWhen: () => Promise.reject(new Error('no log')) });
    await request(app).get('/').expect(200);
    await until('the failure is emitted', () => emitted.length > 0);
    expect((await limit.limiter.peek('ann')).used).toBe(1);
  });

  it('the option `refundWhen` is called even if the client has gone before the decision', async () => {
    const arrived = new EventEmitter();
    const key = new Promise<string>((resolve) => arrived.once('gone', () => resolve('ann')));
    const asked = vi.fn(() => true);
    const limit = memory().rateLimit({ ...ONE, key: () => key, refundWhen: asked });
    const base = await serve((req, res) => {
      arrived.emit('request', res);
      limit(req, res, () => res.end('ok'));
    });
    const waiting = once(arrived, 'request');
    const client = get(base).on('error', () => undefined);
    const [res] = await waiting;
    const closed = once(res, 'close');
    client.destroy();
    await closed;
    arrived.emit('gone');
    await until('refundWhen is called', () => asked.mock.calls.length > 0);
    await until('the refund is done', async () => (await limit.limiter.peek('ann')).used === 0);
    expect(asked).toHaveBeenCalledTimes(1);
  });
});

describe('a limiter that is called after the response', () => {
  it('a limiter counts a request whose response has been sent, and does not change the response', async () => {
    const limit = memory().rateLimit(ONE);
    const errors: unknown[] = [];
    const base = await serve((req, res) => {
      res.end('answered');
      limit(req, res, (error) => error !== undefined && errors.push(error));
    });
    for (let tries = 0; tries < 2; tries++) await request(base).get('/').expect(200, 'answered');
    await until('both requests are decided', async () => (await limit.limiter.peek('ann')).used === 1);
    expect(errors).toEqual([]);
  });
});

describe('shadow mode', () => {
  it('a limiter in shadow mode refuses nothing when a callback fails, and emits the error', async () => {
    const fail = () => {
      throw new Error('no database');
    };
    for (const option of [{ key: fail }, { key: () => undefined as unknown as string }, { cost: fail }]) {
      const kit = memory();
      const emitted = eventsOf(kit, 'error');
      const { app } = appWith(kit, { ...ONE, shadow: true, ...option });
      await request(app).get('/').expect(200);
      expect(emitted).toHaveLength(1);
    }
    const { app } = appWith(memory(), { ...ONE, limit: () => -1, shadow: true });
    await request(app).get('/').expect(200);
  });
});

it('an empty string from `key` is an error, and no message shows the value that `key` returned', async () => {
  const kit = memory();
  const emitted = eventsOf(kit, 'rate:misuse');
  const { app } = appWith(kit, { ...ONE, key: (req) => req.get('x-key') ?? '' });
  await request(app)
    .get('/')
    .expect(500, /an empty string.*null to skip/);
  const secret = { ...ONE, name: 'two', key: () => 4_111_111_111 as unknown as string };
  const answer = await request(appWith(kit, secret).app).get('/').expect(500);
  expect(answer.text).toContain('returned a number');
  expect(answer.text).not.toContain('4111111111');
  expect(emitted).toHaveLength(2);
});
