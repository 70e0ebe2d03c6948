import { beforeAll, expect, it } from 'vitest';
import { describeBySeconds } from '../../support/kits.ts';
import { loadCacheScripts } from '../scripts.ts';
import { dateIn, isStored, says, site } from './site.ts';

describeBySeconds('RFC 9213: CDN-Cache-Control', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  const stored = (targeted: string | string[], general: string, ttl = false, rest = {}) =>
    isStored(
      url(),
      ttl ? { ttl: '1m' } : {},
      says({ 'CDN-Cache-Control': targeted, 'Cache-Control': general, ...rest }),
    );

  it('RFC 9213, section 2.2: CDN-Cache-Control permits or forbids storing regardless of Cache-Control', async () => {
    expect(await stored('max-age=60', 'no-store')).toBe(true);
    expect(await stored('max-age=60', 'private, max-age=0')).toBe(true);
    expect(await stored('no-store', 'max-age=60')).toBe(false);
    expect(await stored('private', 'public, s-maxage=60')).toBe(false);
    expect(await stored('max-age=0', 'max-age=60')).toBe(false);
  });

  it('RFC 9213, section 2.2: CDN-Cache-Control sets the lifetime, and clients get both fields unchanged', async () => {
    const { ask, pass, runs } = await site(
      url(),
      {},
      says({ 'CDN-Cache-Control': 'max-age=30', 'Cache-Control': 'max-age=10' }),
    );
    await ask();
    await pass(29_000);
    const { headers } = await ask();
    expect(headers).toMatchObject({
      'cdn-cache-control': 'max-age=30',
      'cache-control': 'max-age=10',
      age: '29',
    });
    await pass(1_000);
    await ask();
    expect(runs()).toBe(2);
  });

  it('RFC 9213, section 2.2: CDN-Cache-Control overrides Expires', async () => {
    expect(await stored('public', '', false, { Expires: dateIn(60) })).toBe(false);
    expect(await stored('max-age=60', '', false, { Expires: '0' })).toBe(true);
  });

  it.each([
    ['max-age=60, &&&', 'a member that does not parse'],
    ['max-age=60,', 'a comma at the end'],
    ['max-age="60', 'a quote that is not closed'],
    ['MAX-AGE=60', 'a key in capitals'],
    ['', 'nothing'],
  ])('RFC 9213, section 2.1: a CDN-Cache-Control of %j is ignored as a whole', async (targeted) => {
    expect(await stored(targeted, 'no-store')).toBe(false);
    expect(await stored(targeted, 'max-age=60')).toBe(true);
    expect(await stored(targeted, '', false, { Expires: dateIn(60) })).toBe(true);
  });

  it.each(['no-store,', 'max-age=60, no-store, &&&', 'No-Store', 'PRIVATE', 'x=@1.5, private', 'no-cache='])(
    'RFC 9213, section 2.1: the malformed CDN-Cache-Control %j still forbids storing',
    async (targeted) => {
      expect(await stored(targeted, 'max-age=60')).toBe(false);
      expect(await stored(targeted, '', true)).toBe(false);
    },
  );

  it('RFC 9651, section 3.3.7: a directive after a value of the type Date is obeyed', async () => {
    expect(await stored('x=@1659578233, no-store', 'max-age=60')).toBe(false);
    expect(await stored('x=@1659578233, max-age=60', 'no-store')).toBe(true);
  });

  it.each([
    'max-age="60"',
    'max-age=60.0',
    'max-age=-1',
    'max-age',
    'max-age=soon',
    's-maxage=?1, max-age=60',
  ])(
    'RFC 9213, section 2.1: a CDN-Cache-Control of %s sets no lifetime, since its value has a wrong type',
    async (targeted) => {
      expect(await stored(targeted, 'max-age=60')).toBe(false);
    },
  );

  it('RFC 9213, section 2.1: parameters are ignored, lines are joined, and the last value of a directive is used', async () => {
    expect(await stored('max-age=60;x=1', 'no-store')).toBe(true);
    expect(await stored(['public', 'max-age=60'], 'no-store')).toBe(true);
    expect(await stored(['max-age=60', 'no-store'], 'max-age=60')).toBe(false);
    expect(await stored('max-age=0, max-age=60', 'no-store')).toBe(true);
    expect(await stored('max-age=60, no-store=?0', 'no-store')).toBe(true);
  });

  it('RFC 9111, section 3.5: a response with `public` in CDN-Cache-Control may answer requests with Authorization', async () => {
    for (const [targeted, runsThen] of [
      ['public, max-age=60', 1],
      ['s-maxage=60', 1],
      ['max-age=60', 2],
    ] as const) {
      const { ask, runs } = await site(
        url(),
        {},
        says({
          'CDN-Cache-Control': targeted,
          'Cache-Control': targeted.includes('max-age=60') ? 'public' : '',
        }),
      );
      await ask('/a', { Authorization: 'x' });
      await ask();
      expect(runs(), targeted).toBe(runsThen === 1 ? 1 : 2);
    }
  });

  it('with a ttl, no-store in CDN-Cache-Control or in Cache-Control forbids storing', async () => {
    for (const word of ['no-store', 'private', 'no-cache']) {
      expect(await stored('max-age=60', word, true), word).toBe(false);
      expect(await stored(word, 'max-age=60', true), word).toBe(false);
    }
    expect(await stored('max-age=0', 'max-age=0', true)).toBe(true);
    expect(await stored('max-age=60, &', 'no-store', true)).toBe(false);
  });

  it('with a ttl, must-revalidate in CDN-Cache-Control or in Cache-Control forbids stale responses', async () => {
    for (const [targeted, general] of [
      ['must-revalidate', 'public'],
      ['public', 'must-revalidate'],
    ] as const) {
      const { ask, pass, runs } = await site(
        url(),
        { ttl: '10s', staleWhileRevalidate: '1m' },
        says({ 'CDN-Cache-Control': targeted, 'Cache-Control': general }),
      );
      await ask();
      await pass(11_000);
      expect((await ask()).headers.age).toBeUndefined();
      expect(runs()).toBe(2);
    }
  });

  it('RFC 5861: CDN-Cache-Control sets the stale windows', async () => {
    const { ask, pass } = await site(
      url(),
      {},
      says({
        'CDN-Cache-Control': 'max-age=10, stale-while-revalidate=60',
        'Cache-Control': 'max-age=10, must-revalidate',
      }),
    );
    await ask();
    await pass(20_000);
    expect((await ask()).headers.age).toBe('20');
  });
});
