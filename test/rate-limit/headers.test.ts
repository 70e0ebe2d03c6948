import express from 'express';
import { parseList } from 'structured-headers';
import request from 'supertest';
import { describe, expect, it } from 'vitest';
import { kitForTest } from '../support/kits.ts';

const THREE = { algorithm: 'sliding-window', limit: 3, window: '1h', name: 'three' } as const;

const memory = () => kitForTest({ url: 'memory:' });

function ok(_req: unknown, res: { end(text: string): unknown }): void {
  res.end('ok');
}

describe('the rate headers', () => {
  it('a limiter adds to the list fields of other limiters instead of overwriting them', async () => {
    const kit = memory();
    const app = express()
      .use(kit.rateLimit({ ...THREE, headers: ['draft-10', 'legacy'] }))
      .use(kit.rateLimit({ ...THREE, limit: 9, name: 'nine', headers: ['draft-10', 'legacy'] }))
      .get('/', ok);
    const { headers } = await request(app).get('/').expect(200);
    expect(parseList(String(headers['ratelimit-policy']))).toEqual([
      [
        'three',
        new Map([
          ['q', 3],
          ['w', 3600],
        ]),
      ],
      [
        'nine',
        new Map([
          ['q', 9],
          ['w', 3600],
        ]),
      ],
    ]);
    expect(parseList(String(headers.ratelimit))).toEqual([
      [
        'three',
        new Map([
          ['r', 2],
          ['t', 3600],
        ]),
      ],
      [
        'nine',
        new Map([
          ['r', 8],
          ['t', 3600],
        ]),
      ],
    ]);
    expect(headers['x-ratelimit-remaining']).toBe('2');
    expect(headers['x-ratelimit-limit']).toBe('3');
  });

  it('the option `headers` selects the fields of the response', async () => {
    const sent = async (headers: 'draft-8' | 'draft-6' | 'legacy' | false) => {
      const app = express()
        .use(memory().rateLimit({ ...THREE, headers }))
        .get('/', ok);
      const all = (await request(app).get('/').expect(200)).headers as Record<string, string>;
      return Object.fromEntries(Object.entries(all).filter(([name]) => name.includes('ratelimit')));
    };
    expect(await sent('draft-8')).toEqual({
      'ratelimit-policy': '"three";q=3;w=3600',
      ratelimit: '"three";r=2;t=3600',
    });
    expect(await sent('draft-6')).toEqual({
      'ratelimit-policy': '3;w=3600',
      'ratelimit-limit': '3',
      'ratelimit-remaining': '2',
      'ratelimit-reset': '3600',
    });
    const legacy = await sent('legacy');
    expect(legacy).toMatchObject({ 'x-ratelimit-limit': '3', 'x-ratelimit-remaining': '2' });
    expect(Math.abs(Number(legacy['x-ratelimit-reset']) - (Date.now() / 1000 + 3600))).toBeLessThan(60);
    expect(await sent(false)).toEqual({});
  });

  it('the window of a token bucket in the rate headers is the time in which the bucket refills', async () => {
    const limit = memory().rateLimit({
      algorithm: 'token-bucket',
      capacity: 5,
      refill: { tokens: 2, per: '1s' },
      name: 'b',
    });
    const { headers } = await request(express().use(limit).get('/', ok)).get('/');
    expect(headers['ratelimit-policy']).toBe('"b";q=5;w=3');
    expect(headers.ratelimit).toBe('"b";r=4;t=1');
  });
});
