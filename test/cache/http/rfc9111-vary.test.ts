import type { RequestHandler } from 'express';
import { beforeAll, describe, expect, it } from 'vitest';
import { redisUrl } from '../../support/context.ts';
import { describeBySeconds } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { until } from '../../support/until.ts';
import { loadCacheScripts } from '../scripts.ts';
import { type SiteOptions, says, site } from './site.ts';

/** A handler whose response varies on a header and contains its value. */
function varying(...names: string[]): RequestHandler {
  return (req, res) => {
    res.setHeader('Vary', names);
    res.end(names.map((name) => `${name}=${req.headers[name.toLowerCase()]}`).join(' '));
  };
}

const ttl = '1m';

describeBySeconds('RFC 9111, section 4.1: responses that vary', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  it('a variant answers only requests with the same values of the headers in Vary', async () => {
    const { ask, runs } = await site(url(), { ttl }, varying('Accept', 'X-B'));
    const requests = [{ Accept: 'a' }, { Accept: 'b' }, { 'X-B': 'a' }, { Accept: 'a', 'X-B': 'a' }, {}];
    for (const [index, headers] of [...requests, ...requests].entries()) {
      const { text, headers: answered } = await ask('/a', headers as Record<string, string>);
      const { Accept: accept, 'X-B': b } = headers as Record<string, string>;
      expect(text).toBe(`Accept=${accept} X-B=${b}`);
      expect(answered.age !== undefined).toBe(index >= requests.length);
    }
    expect(runs()).toBe(requests.length);
  });

  it('a variant for a request without a header answers only requests without this header', async () => {
    const { ask, runs } = await site(url(), { ttl }, varying('X-A'));
    await ask();
    await ask('/a', { 'X-A': '' });
    expect(runs()).toBe(2);
    await ask();
    await ask('/a', { 'X-A': '' });
    expect(runs()).toBe(2);
  });

  it('header values are equal if they differ only in white space around commas and at the ends', async () => {
    const { ask, runs } = await site(url(), { ttl }, varying('X-Coding'));
    for (const value of ['gzip, br', 'gzip,br', ' gzip ,  br ', 'gzip,\tbr']) {
      await ask('/a', { 'X-Coding': value });
    }
    expect(runs()).toBe(1);
    for (const value of ['br, gzip', 'gzip', 'GZIP, br', 'gzip;q=1, br']) {
      await ask('/a', { 'X-Coding': value });
    }
    expect(runs()).toBe(5);
  });

  it.each(['Accept-Encoding', 'Accept-Language'])(
    'requests with equal preferences in %s share a variant',
    async (name) => {
      const { ask, runs } = await site(url(), { ttl }, varying(name));
      for (const value of ['de, en;q=0.5', 'DE,en;q=0.50', 'en;q=0.5 , de', 'de;q=1.0, en; q=0.5']) {
        await ask('/a', { [name]: value });
      }
      expect(runs()).toBe(1);
      for (const value of ['de, en', 'de;q=0.5, en', 'de', 'de, en;q=0.5, fr;q=0']) {
        await ask('/a', { [name]: value });
      }
      expect(runs()).toBe(5);
    },
  );

  it('the names in Vary are equal in any case and order, on one line or several', async () => {
    const spellings = [['X-A, x-b'], ['X-B', 'X-A'], ['x-b ,X-A,, x-a'], 'X-A,X-B'];
    let at = 0;
    const { ask, runs } = await site(url(), { ttl }, (_req, res) => {
      res.setHeader('Vary', spellings[at++] ?? []);
      res.end('body');
    });
    const requests = ['1', '2', '3', '4'].map((value) => ({ 'X-A': value }));
    for (const headers of requests) await ask('/a', headers);
    for (const headers of requests) expect((await ask('/a', headers)).headers.age).toBeDefined();
    expect(runs()).toBe(4);
  });

  it.each(['*', 'Accept, *', ['Accept', '*']])('a response with Vary: %j is not stored', async (vary) => {
    const { ask, runs, skipped } = await site(url(), { ttl }, says({ Vary: vary }));
    await ask();
    await ask();
    expect(runs()).toBe(2);
    expect(skipped).toMatchObject([{ reason: 'vary' }, { reason: 'vary' }]);
  });

  it('a response that varies on a header not in vary.allow is not stored', async () => {
    const options: SiteOptions = { ttl, vary: { allow: ['Accept-Language'] } };
    const allowed = await site(url(), options, varying('accept-language'));
    await allowed.ask();
    await allowed.ask();
    expect(allowed.runs()).toBe(1);
    const other = await site(url(), options, varying('Accept-Language', 'User-Agent'));
    await other.ask();
    await other.ask();
    expect(other.runs()).toBe(2);
    expect(other.skipped).toMatchObject([{ reason: 'vary' }, { reason: 'vary' }]);
  });

  it('a key has at most vary.maxVariants variants, and the oldest is removed', async () => {
    const options: SiteOptions = { ttl, vary: { maxVariants: 3 }, local: false };
    const { ask, runs, storedAll } = await site(url(), options, varying('X-A'));
    for (const [index, value] of ['1', '2', '3', '4'].entries()) {
      await ask('/a', { 'X-A': value });
      await storedAll(index + 1);
    }
    for (const value of ['2', '3', '4'])
      expect((await ask('/a', { 'X-A': value })).headers.age).toBeDefined();
    expect(runs()).toBe(4);
    expect((await ask('/a', { 'X-A': '1' })).text).toBe('X-A=1');
    expect(runs()).toBe(5);
  });

  it('variants are selected by the new Vary after a response has changed its Vary', async () => {
    let vary: string | undefined;
    const { ask, runs, pass, storedAll } = await site(url(), { ttl: '10s' }, (req, res) => {
      if (vary !== undefined) res.setHeader('Vary', vary);
      res.end(`${vary}: ${vary && req.headers[vary]}`);
    });
    let stores = 0;
    for (const [now, names] of [
      [undefined, ['undefined: undefined', 'undefined: undefined']],
      ['x-a', ['x-a: 1', 'x-a: 2']],
      [undefined, ['undefined: undefined', 'undefined: undefined']],
      ['x-b', ['x-b: 1', 'x-b: 2']],
      ['x-a', ['x-a: 1', 'x-a: 2']],
    ] as const) {
      vary = now;
      const before = runs();
      for (const round of [1, 2]) {
        for (const [index, value] of ['1', '2'].entries()) {
          const { text } = await ask('/a', { 'X-A': value, 'X-B': value });
          expect(text, `round ${round}`).toBe(names[index]);
        }
        if (round === 1) {
          stores += new Set(names).size;
          await storedAll(stores);
        }
      }
      expect(runs() - before).toBe(new Set(names).size);
      await pass(11_000);
    }
  });

  it('RFC 9110, section 12.5.5: variants are selected by the headers that Express and its middleware add to Vary', async () => {
    const { ask, runs } = await site(url(), { ttl }, (req, res) => {
      res.format({
        text: () => void res.send('text'),
        json: () => void res.json({ accept: req.headers.accept }),
      });
    });
    for (const _ of [1, 2]) {
      expect((await ask('/a', { Accept: 'text/plain' })).text).toBe('text');
      expect((await ask('/a', { Accept: 'application/json' })).text).toBe('{"accept":"application/json"}');
    }
    expect(runs()).toBe(2);
  });
});

describe('RFC 9111, section 4.1: variants in Redis', () => {
  beforeAll(() => loadCacheScripts(redisUrl()));

  const keysOf = (prefix: string) =>
    withPlainClient(redisUrl(), (client) => client.keys(`${prefix}:cache:{127*`));

  it('a response with up to vary.maxVariants variants takes one Redis key for each, and one for their list', async () => {
    const options: SiteOptions = { ttl, vary: { maxVariants: 3 } };
    const { ask, kit, storedAll } = await site(redisUrl(), options, varying('X-A'));
    for (let value = 1; value <= 20; value++) {
      await ask('/a', { 'X-A': String(value) });
      await storedAll(value);
    }
    await until('the others are gone', async () => (await keysOf(kit.prefix)).length === 4);
  });

  it.each([
    ['something else', 'X-B'],
    ['nothing', undefined],
  ])('old variants are deleted from Redis when the response varies on %s', async (_, second) => {
    const { ask, kit, storedAll } = await site(redisUrl(), { ttl }, (req, res) => {
      const vary = req.headers['x-c'] === undefined ? 'X-A, X-C' : second;
      if (vary !== undefined) res.setHeader('Vary', vary);
      res.end('body');
    });
    for (const [index, value] of ['1', '2', '3'].entries()) {
      await ask('/a', { 'X-A': value });
      await storedAll(index + 1);
    }
    expect(await keysOf(kit.prefix)).toHaveLength(4);
    await ask('/a', { 'X-C': '1' });
    await storedAll(4);
    const left = second === undefined ? 1 : 2;
    await until('the old ones are gone', async () => (await keysOf(kit.prefix)).length === left);
  });
});
