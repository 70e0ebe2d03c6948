import type { RequestHandler } from 'express';
import { beforeAll, expect, it } from 'vitest';
import { describeBySeconds } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { loadCacheScripts } from '../scripts.ts';
import { type SiteOptions, says, site } from './site.ts';

const FIRST = {
  'Cache-Control': 'max-age=10, stale-while-revalidate=60',
  ETag: '"1"',
  'Content-Type': 'text/x-first',
  'X-Kept': 'kept',
  'X-Changed': 'before',
};
const OLD = 'Sat, 03 Jan 2015 00:00:00 GMT';
const NEW = 'Sun, 04 Jan 2015 00:00:00 GMT';

describeBySeconds('RFC 9111, sections 3.2 and 4.3.4: a 304 from the handler of a refresh', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  /** A page that was stored, became stale, was requested once more and refreshed in the background. */
  async function refreshed(first: RequestHandler, second: RequestHandler, options: SiteOptions = {}) {
    const conditions: (readonly [string | undefined, string | undefined])[] = [];
    const made = await site(url(), { singleFlight: false, ...options }, (req, res, next) => {
      const { 'if-none-match': tag, 'if-modified-since': since } = req.headers;
      conditions.push([tag, since]);
      return (conditions.length === 1 ? first : second)(req, res, next);
    });
    await made.ask();
    await made.storedAll(1);
    await made.pass(11_000);
    const stale = await made.ask();
    await until('the handler was asked again', () => made.runs() === 2);
    return { ...made, stale, conditions };
  }

  it('RFC 9111, section 4.3.1: a refresh has only the conditions that validate the stale response', async () => {
    const both = await refreshed(
      says({ ...FIRST, 'Last-Modified': OLD }),
      says(FIRST, { status: 304, body: '' }),
    );
    expect(both.conditions).toEqual([
      [undefined, undefined],
      ['"1"', OLD],
    ]);
    const neither = await refreshed(says({ ...FIRST, ETag: undefined }), says(FIRST));
    expect(neither.conditions).toEqual([
      [undefined, undefined],
      [undefined, undefined],
    ]);
  });

  it('a 304 updates the headers and the lifetime of the stored response, and keeps its body', async () => {
    const update = { ...FIRST, 'X-Changed': 'after', 'X-New': 'new', 'Cache-Control': 'max-age=30' };
    const { ask, stale, storedAll, runs, pass } = await refreshed(
      says(FIRST),
      says(update, { status: 304, body: '' }),
    );
    expect(stale).toMatchObject({ status: 200, text: 'body' });
    expect(stale.headers).toMatchObject({ 'x-changed': 'before' });
    await storedAll(2);
    const hit = await ask();
    expect(hit).toMatchObject({ status: 200, text: 'body' });
    expect(hit.headers).toMatchObject({
      ...{ 'x-kept': 'kept', 'x-changed': 'after', 'x-new': 'new', etag: '"1"' },
      ...{ 'cache-control': 'max-age=30', 'content-length': '4', age: '0' },
    });
    await pass(29_000);
    expect((await ask()).headers.age).toBe('29');
    expect(runs()).toBe(2);
  });

  it('RFC 9111, section 3.2: a 304 does not replace fields that describe the stored body', async () => {
    const update = {
      ...FIRST,
      'Content-Type': 'text/x-second',
      'Content-Encoding': 'br',
      'Content-Range': 'bytes 0-1/2',
      'Content-Location': '/elsewhere',
    };
    const { ask, storedAll } = await refreshed(says(FIRST), says(update, { status: 304, body: '' }));
    await storedAll(2);
    const { headers, text } = await ask();
    expect(text).toBe('body');
    expect(headers).toMatchObject({ 'content-type': 'text/x-first', 'content-location': '/elsewhere' });
    expect([headers['content-encoding'], headers['content-range']]).toEqual([undefined, undefined]);
  });

  it('RFC 9111, section 4.3.3: a 200 replaces the stored response', async () => {
    const second = { 'Cache-Control': 'max-age=10', ETag: '"2"' };
    const { ask, storedAll } = await refreshed(says(FIRST), says(second, { body: 'another body' }));
    await storedAll(2);
    const { headers, text } = await ask();
    expect([text, headers.etag, headers['x-kept']]).toEqual(['another body', '"2"', undefined]);
  });

  it.each([
    ['another ETag', { ETag: '"2"' }],
    ['another Last-Modified and no ETag', { ETag: undefined, 'Last-Modified': NEW }],
    ['no-store', { 'Cache-Control': 'no-store' }],
    ['a cookie', { 'Set-Cookie': 'a=b' }],
    ['another Vary', { Vary: 'Accept' }],
  ])(
    'a 304 with %s does not update the stored response, and the next refresh is unconditional',
    async (_, update) => {
      const { ask, pass, skipped, runs, stored, conditions, storedAll } = await refreshed(
        says({ ...FIRST, 'Last-Modified': OLD }),
        (req, res, next) =>
          req.headers['if-none-match'] === undefined
            ? says(FIRST, { body: 'refreshed' })(req, res, next)
            : says({ ...FIRST, 'X-Changed': 'after', ...update }, { status: 304, body: '' })(req, res, next),
      );
      await until('it was refused', () => skipped.length === 1);
      expect(skipped[0]).toMatchObject({ reason: 'validator' });
      expect(stored).toHaveLength(1);
      await pass(1_000);
      await until('the handler was asked a third time', async () => (await ask()) && runs() >= 3);
      await storedAll(2);
      expect(conditions.at(-1)).toEqual([undefined, undefined]);
      expect((await ask()).text).toBe('refreshed');
    },
  );

  it('a 304 updates the stored response when earlier middleware sets the lifetime', async () => {
    const { ask, storedAll, runs } = await refreshed(
      says({ ETag: '"1"' }),
      says({ ETag: '"1"', 'X-New': 'new' }, { status: 304, body: '' }),
      {
        above: [
          (_req, res, next) => {
            res.setHeader('Cache-Control', 'max-age=10, stale-while-revalidate=60');
            next();
          },
        ],
      },
    );
    await storedAll(2);
    expect((await ask()).headers['x-new']).toBe('new');
    expect(runs()).toBe(2);
  });

  it('a 304 that Express makes of a 200 validates the stored response', async () => {
    const { ask, storedAll, stored } = await refreshed(
      (_req, res) => void res.set('Cache-Control', FIRST['Cache-Control']).send('by Express'),
      (_req, res) => void res.set('Cache-Control', 'max-age=30').send('by Express'),
    );
    await storedAll(2);
    expect(stored).toHaveLength(2);
    const { text, headers } = await ask();
    expect([text, headers['cache-control'], headers.age]).toEqual(['by Express', 'max-age=30', '0']);
  });

  it('a 304 starts the `ttl` of the app again', async () => {
    const options: SiteOptions = { ttl: '10s', staleWhileRevalidate: '1m' };
    const { ask, storedAll, pass, runs } = await refreshed(
      says({ ETag: '"1"' }),
      says({ ETag: '"1"' }, { status: 304, body: '' }),
      options,
    );
    await storedAll(2);
    await pass(9_000);
    expect((await ask()).headers.age).toBe('9');
    expect(runs()).toBe(2);
  });

  it('a 304 of a handler without conditions in its request is not stored', async () => {
    const { ask } = await site(url(), { ttl: '1m' }, says(FIRST, { status: 304, body: '' }));
    expect((await ask()).status, 'a handler that says so unasked is its own affair').toBe(304);
    expect((await ask()).headers.age).toBeUndefined();
  });
});
