import { beforeAll, describe, expect, it, vi } from 'vitest';
import { describeBySeconds } from '../../support/kits.ts';
import { passTime } from '../../support/time.ts';
import { loadCacheScripts } from '../scripts.ts';
import { isStored, type SiteOptions, says, site } from './site.ts';

const MAX_AGE = { 'Cache-Control': 'max-age=60' };
const DAY = 86_400_000;

describeBySeconds('RFC 9111: which responses are stored', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  describe('RFC 9111, section 3: statuses', () => {
    it.each([200, 203, 204, 299, 301, 302, 307, 400, 404, 410, 418, 500, 503, 599])(
      'without a ttl, a %i with an explicit lifetime is stored',
      async (status) => {
        const body = status === 204 ? '' : 'body';
        expect(await isStored(url(), {}, says(MAX_AGE, { status, body }))).toBe(true);
      },
    );

    it.each([206, 304, 600, 999])('a %i is never stored', async (status) => {
      const body = status === 304 ? '' : 'body';
      expect(await isStored(url(), {}, says(MAX_AGE, { status, body }))).toBe(false);
      expect(await isStored(url(), { ttl: '1m' }, says(MAX_AGE, { status, body }))).toBe(false);
    });

    it('with the ttl of the app, only a 200 is stored', async () => {
      expect(await isStored(url(), { ttl: '1m' }, says({}))).toBe(true);
      for (const status of [203, 301, 404, 500]) {
        expect(await isStored(url(), { ttl: '1m' }, says(MAX_AGE, { status }))).toBe(false);
      }
    });

    it('only responses with a status in the option `statuses` are stored', async () => {
      for (const ttl of ['1m', undefined] as const) {
        const options = { ttl, statuses: [200, 404] };
        expect(await isStored(url(), options, says(MAX_AGE, { status: 200 }))).toBe(true);
        expect(await isStored(url(), options, says(MAX_AGE, { status: 404 }))).toBe(true);
        expect(await isStored(url(), options, says(MAX_AGE, { status: 410 }))).toBe(false);
      }
    });

    it('a response without a lifetime is not stored', async () => {
      expect(await isStored(url(), {}, says({}))).toBe(false);
      expect(await isStored(url(), {}, says({ 'Cache-Control': 'public' }))).toBe(false);
    });

    it.each([206, 304])('kit.cache() throws for a %i in the option `statuses`', async (status) => {
      await expect(site(url(), { statuses: [status] }, says({}))).rejects.toThrow('no whole response');
    });

    it('RFC 9110, section 14.4: a Content-Range is ignored unless the status is 206 or 416', async () => {
      const range = { ...MAX_AGE, 'Content-Range': 'bytes 0-3/9' };
      for (const status of [200, 404]) expect(await isStored(url(), {}, says(range, { status }))).toBe(true);
      for (const status of [206, 416]) expect(await isStored(url(), {}, says(range, { status }))).toBe(false);
    });
  });

  describe('RFC 9111, section 5.2.2.3: must-understand', () => {
    const understand = { 'Cache-Control': 'must-understand, max-age=60' };

    it('a response with must-understand is stored only if this cache understands its status', async () => {
      for (const status of [200, 404, 301]) {
        expect(await isStored(url(), {}, says(understand, { status }))).toBe(true);
      }
      for (const status of [299, 418, 599]) {
        expect(await isStored(url(), {}, says(understand, { status }))).toBe(false);
      }
    });

    it('no-store beside must-understand is ignored if this cache understands the status', async () => {
      const both = { 'Cache-Control': 'no-store, must-understand, max-age=60' };
      expect(await isStored(url(), {}, says(both))).toBe(true);
      expect(await isStored(url(), {}, says(both, { status: 299 }))).toBe(false);
    });

    it('with a ttl, no-store beside must-understand forbids storing', async () => {
      const both = { 'Cache-Control': 'no-store, must-understand' };
      expect(await isStored(url(), { ttl: '1m' }, says(both))).toBe(false);
    });
  });

  describe('RFC 9111, section 3.1: fields', () => {
    it('a stored response has the fields about its content, and none about the connection', async () => {
      const { ask, runs } = await site(
        url(),
        {},
        says({
          ...MAX_AGE,
          'Content-Language': 'de',
          'X-Unknown': 'kept',
          Connection: 'X-Hop, close',
          'X-Hop': 'of one connection',
          'Keep-Alive': 'timeout=9',
          'Proxy-Authenticate': 'Basic',
          'Proxy-Authentication-Info': 'x',
          'Proxy-Connection': 'close',
          TE: 'trailers',
          Upgrade: 'x/1',
        }),
      );
      const miss = await ask();
      expect(miss.headers['x-hop']).toBe('of one connection');
      const { headers } = await ask();
      expect(runs()).toBe(1);
      expect(headers).toMatchObject({ 'content-language': 'de', 'x-unknown': 'kept' });
      for (const name of [
        ...['x-hop', 'proxy-authenticate', 'proxy-authentication-info', 'proxy-connection', 'te', 'upgrade'],
      ]) {
        expect(headers[name], name).toBeUndefined();
      }
    });

    it('a response with a cookie is not stored even with public or private="set-cookie"', async () => {
      for (const control of ['public, max-age=60', 'max-age=60, private="set-cookie"']) {
        const cookie = { 'Cache-Control': control, 'Set-Cookie': 'a=b' };
        expect(await isStored(url(), {}, says(cookie))).toBe(false);
        expect(await isStored(url(), { ttl: '1m' }, says(cookie))).toBe(false);
      }
    });

    it('a response without Date is stored with the time of its head as Date', async () => {
      const leftAt = new Date().toUTCString();
      const { ask, runs } = await site(url(), {}, async (_req, res) => {
        res.setHeader('Cache-Control', 'max-age=60');
        res.write('a body that takes');
        await passTime(1_100);
        res.end(' its time');
      });
      await ask();
      const hit = await ask();
      expect(runs()).toBe(1);
      expect(hit.headers.date).toBe(leftAt);
      expect(hit.headers.age, 'and counts its age from there').toBe('1');
    });

    it('a response is stored for its lifetime and no longer if the clock goes back while its body streams', async () => {
      const { ask, runs, pass } = await site(url(), {}, (_req, res) => {
        res.setHeader('Cache-Control', 'max-age=60');
        res.write('a body of ');
        vi.setSystemTime(Date.now() - 30_000);
        res.end('another time');
      });
      await ask();
      expect((await ask()).headers.age).toBe('0');
      expect(runs()).toBe(1);
      await pass(60_000);
      await ask();
      expect(runs()).toBe(2);
    });
  });

  describe('RFC 9111, section 3.5: requests with Authorization', () => {
    const authorization = { Authorization: 'Bearer ann' };

    it.each(['public, max-age=60', 's-maxage=60', 'must-revalidate, max-age=60'])(
      'all requests, with or without Authorization, share a response with %s',
      async (control) => {
        const { ask, runs } = await site(url(), {}, says({ 'Cache-Control': control }));
        await ask('/a', authorization);
        expect((await ask('/a', { Authorization: 'Bearer bob' })).headers.age).toBeDefined();
        expect((await ask()).headers.age).toBeDefined();
        expect(runs()).toBe(1);
      },
    );

    it.each(['max-age=60', 'max-age=60, proxy-revalidate', 'max-age=60, no-transform'])(
      'a request with Authorization gets no stored response with %s, and its response is not stored',
      async (control) => {
        const { ask, runs, skipped } = await site(url(), {}, says({ 'Cache-Control': control }));
        await ask('/a', authorization);
        expect(skipped).toMatchObject([{ reason: 'authorization' }]);
        await ask();
        expect((await ask()).headers.age).toBeDefined();
        await ask('/a', authorization);
        expect(runs()).toBe(3);
      },
    );

    it('each value of Authorization has its own stored response when `key.headers` names the field', async () => {
      const options: SiteOptions = { ttl: '1m', key: { headers: ['Authorization'] } };
      const { ask, runs } = await site(
        url(),
        options,
        (req, res) => void res.end(`for ${req.headers.authorization}`),
      );
      for (const _ of [1, 2]) {
        for (const who of ['ann', 'bob']) {
          expect((await ask('/a', { Authorization: who })).text).toBe(`for ${who}`);
        }
        expect((await ask()).text).toBe('for undefined');
      }
      expect(runs()).toBe(3);
    });
  });

  describe('RFC 9111, section 4.2.2: heuristics', () => {
    const modified = (ms: number) => new Date(Date.now() - ms).toUTCString();

    it('a heuristic lifetime is not used by default', async () => {
      expect(await isStored(url(), {}, says({ 'Last-Modified': modified(10 * DAY) }))).toBe(false);
    });

    it('a heuristic lifetime is a tenth of the time since Last-Modified', async () => {
      const { ask, pass, runs } = await site(
        url(),
        { heuristics: true },
        says({ 'Last-Modified': modified(1_000_000) }),
      );
      await ask();
      await pass(98_000);
      expect((await ask()).headers.age).toBe('98');
      await pass(4_000);
      await ask();
      expect(runs()).toBe(2);
    });

    it('a heuristic lifetime is a day at most', async () => {
      const { ask, pass, runs } = await site(
        url(),
        { heuristics: true },
        says({ 'Last-Modified': modified(1_000 * DAY) }),
      );
      await ask();
      await pass(DAY - 2_000);
      await ask();
      expect(runs()).toBe(1);
      await pass(3_000);
      await ask();
      expect(runs()).toBe(2);
    });

    it('a heuristic lifetime is used only for statuses that allow one, or with public', async () => {
      const old = { 'Last-Modified': modified(DAY) };
      const options = { heuristics: true };
      for (const status of [203, 301, 404, 410]) {
        expect(await isStored(url(), options, says(old, { status })), String(status)).toBe(true);
      }
      for (const status of [302, 403, 500]) {
        expect(await isStored(url(), options, says(old, { status })), String(status)).toBe(false);
      }
      const declared = { ...old, 'Cache-Control': 'public' };
      expect(await isStored(url(), options, says(declared, { status: 302 }))).toBe(true);
    });

    it('no heuristic lifetime is used beside an explicit lifetime, even a malformed one', async () => {
      const old = { 'Last-Modified': modified(1_000 * DAY) };
      const options = { heuristics: true };
      for (const named of [
        { 'Cache-Control': 'max-age=0' },
        { 'Cache-Control': 'max-age=soon' },
        { Expires: '0' },
      ]) {
        expect(await isStored(url(), options, says({ ...old, ...named }))).toBe(false);
      }
      expect(await isStored(url(), options, says({ 'Last-Modified': 'yesterday' }))).toBe(false);
      expect(await isStored(url(), options, says({ 'Last-Modified': modified(-DAY) }))).toBe(false);
    });
  });
});
