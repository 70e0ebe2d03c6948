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

/** An app whose error handler answers with the error's text, and what it was told. */
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

describe('a handler of refusals', () => {
  it('that rejects is an error of the request', async () => {
    const { app, errors } = appWith(memory(), {
      ...ONE,
      handler: async () => Promise.reject(new Error('no template')),
    });
    await request(app).get('/').expect(200);
    await request(app).get('/').expect(500, 'no template');
    expect(errors).toHaveLength(1);
  });

  it('that lets the request pass and fails then calls nothing twice, and is told', async () => {
    const kit = memory();
    const told = eventsOf(kit, 'error');
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
    await until('the failure is told', () => told.length > 0);
    expect(told[0]).toMatchObject({ feature: 'rate', error: { message: 'too late' } });
  });
});

describe('refundWhen', () => {
  it('may answer later, and decides by what it answered', async () => {
    for (const [answer, used] of [
      [true, 0],
      [false, 1],
    ] as const) {
      const asked = vi.fn(async () => answer);
      const { app, limit } = appWith(memory(), { ...ONE, refundWhen: asked });
      await request(app).get('/').expect(200);
      await until('it was asked', () => asked.mock.calls.length > 0);
      await until('it was heard', async () => (await limit.limiter.peek('ann')).used === used);
    }
  });

  it('that fails is told, and gives nothing back', async () => {
    const kit = memory();
    const told = eventsOf(kit, 'error');
    const { app, limit } = appWith(kit, { ...ONE, refundWhen: () => Promise.reject(new Error('no log')) });
    await request(app).get('/').expect(200);
    await until('the failure is told', () => told.length > 0);
    expect((await limit.limiter.peek('ann')).used).toBe(1);
  });

  it('is asked also when the client had gone before the decision came', async () => {
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
    await until('it is asked', () => asked.mock.calls.length > 0);
    await until('the refund is done', async () => (await limit.limiter.peek('ann')).used === 0);
    expect(asked).toHaveBeenCalledTimes(1);
  });
});

describe('a limiter behind an answer', () => {
  it('that has been sent counts and changes nothing in it', async () => {
    const limit = memory().rateLimit(ONE);
    const errors: unknown[] = [];
    const base = await serve((req, res) => {
      res.end('answered');
      limit(req, res, (error) => error !== undefined && errors.push(error));
    });
    for (let tries = 0; tries < 2; tries++) await request(base).get('/').expect(200, 'answered');
    await until('both were counted or refused', async () => (await limit.limiter.peek('ann')).used === 1);
    expect(errors).toEqual([]);
  });
});

describe('a shadow', () => {
  it('refuses nothing, whatever its callbacks do, and tells of it', async () => {
    const fail = () => {
      throw new Error('no database');
    };
    for (const option of [{ key: fail }, { key: () => undefined as unknown as string }, { cost: fail }]) {
      const kit = memory();
      const told = eventsOf(kit, 'error');
      const { app } = appWith(kit, { ...ONE, shadow: true, ...option });
      await request(app).get('/').expect(200);
      expect(told).toHaveLength(1);
    }
    const { app } = appWith(memory(), { ...ONE, limit: () => -1, shadow: true });
    await request(app).get('/').expect(200);
  });
});

it('an empty string is nobody, and what a key returned is not told', async () => {
  const kit = memory();
  const told = eventsOf(kit, 'rate:misuse');
  const { app } = appWith(kit, { ...ONE, key: (req) => req.get('x-key') ?? '' });
  await request(app)
    .get('/')
    .expect(500, /an empty string.*null to skip/);
  const secret = { ...ONE, name: 'two', key: () => 4_111_111_111 as unknown as string };
  const answer = await request(appWith(kit, secret).app).get('/').expect(500);
  expect(answer.text).toContain('returned a number');
  expect(answer.text).not.toContain('4111111111');
  expect(told).toHaveLength(2);
});
