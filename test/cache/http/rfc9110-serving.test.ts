import type { RequestHandler } from 'express';
import { beforeAll, describe, expect, it } from 'vitest';
import { describeBySeconds } from '../../support/kits.ts';
import type { Answer } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';
import { dateIn, lastStatus, says, site } from './site.ts';

const DIGITS = '0123456789';
const DATES = [
  'Sat, 03 Jan 2015 00:00:00 GMT',
  'Sun, 04 Jan 2015 00:00:00 GMT',
  'Mon, 05 Jan 2015 00:00:00 GMT',
];
const [BEFORE = '', THEN = '', LATER = ''] = DATES;
const ttl = '1m';
const WHOLE = {
  'Cache-Control': 'max-age=60',
  'Content-Location': '/a.txt',
  'Content-Type': 'text/plain',
  ETag: '"1"',
  Expires: LATER,
  'Last-Modified': THEN,
  Vary: 'Accept',
  'X-Own': 'own',
};

describeBySeconds('RFC 9110: how a stored response is sent', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  /** Requests a page that is stored. */
  async function stored(handler: RequestHandler) {
    const { ask, runs } = await site(url(), { ttl }, handler);
    await ask();
    const again = async (headers: Record<string, string>, method?: string): Promise<Answer> => {
      const answer = await ask('/a', headers, method);
      expect(runs()).toBe(1);
      return answer;
    };
    return again;
  }

  const digits = (headers: Parameters<typeof says>[0] = WHOLE, status = 200) =>
    stored(says(headers, { status, body: DIGITS }));

  describe('RFC 9111, section 4.3.2: conditional requests', () => {
    it.each([
      ['"1"', 304],
      ['W/"1"', 304],
      ['"0", "1"', 304],
      ['"0","1" , W/"2"', 304],
      ['*', 304],
      [' * ', 304],
      ['"2"', 200],
      ['"0", "2"', 200],
      ['1', 200],
      ['""', 200],
      ['"*"', 200],
    ])('RFC 9110, section 13.1.2: If-None-Match: %s gets a %i', async (tags, status) => {
      const again = await digits();
      for (const method of ['GET', 'HEAD']) {
        const answer = await again({ 'If-None-Match': tags }, method);
        expect([answer.status, answer.text], method).toEqual([
          status,
          status === 200 && method === 'GET' ? DIGITS : '',
        ]);
      }
    });

    it('RFC 9110, section 13.1.2: a stored weak ETag matches If-None-Match by weak comparison', async () => {
      const again = await digits({ ETag: 'W/"1"' });
      expect((await again({ 'If-None-Match': '"1"' })).status).toBe(304);
      expect((await again({ 'If-None-Match': 'W/"1"' })).status).toBe(304);
    });

    it('RFC 9110, section 13.1.2: without a stored ETag, only * in If-None-Match matches', async () => {
      const again = await digits({});
      expect((await again({ 'If-None-Match': '"1"' })).status).toBe(200);
      expect((await again({ 'If-None-Match': '*' })).status).toBe(304);
    });

    it('RFC 9110, section 15.4.5: a 304 has the headers of the stored response except those that describe its body', async () => {
      const answer = await (await digits())({ 'If-None-Match': '"1"' });
      const { 'Content-Type': _, ...rest } = WHOLE;
      const lower = Object.fromEntries(
        Object.entries(rest).map(([name, value]) => [name.toLowerCase(), value]),
      );
      expect(answer.headers).toMatchObject({ ...lower, age: '0' });
      expect(answer.headers.date).toBeDefined();
      expect(lastStatus(answer)).toMatch(/^redis-kit; hit; ttl=/);
      for (const name of ['content-type', 'content-length', 'content-encoding', 'content-range']) {
        expect(answer.headers[name], name).toBeUndefined();
      }
    });

    it.each([
      [BEFORE, 200],
      [THEN, 304],
      [LATER, 304],
      ['Sunday, 04-Jan-15 00:00:00 GMT', 304],
      ['Sun Jan  4 00:00:00 2015', 304],
      ['2015-01-05T00:00:00Z', 200],
      ['', 200],
    ])('RFC 9110, section 13.1.3: If-Modified-Since: %s gets a %i', async (since, status) => {
      expect((await (await digits())({ 'If-Modified-Since': since })).status).toBe(status);
    });

    it('RFC 9111, section 4.3.2: without Last-Modified, If-Modified-Since is compared with Date', async () => {
      const again = await digits({ Date: THEN });
      expect((await again({ 'If-Modified-Since': BEFORE })).status).toBe(200);
      expect((await again({ 'If-Modified-Since': THEN })).status).toBe(304);
    });

    it('RFC 9110, section 13.2.2: If-None-Match takes precedence over If-Modified-Since', async () => {
      const again = await digits();
      expect((await again({ 'If-None-Match': '"2"', 'If-Modified-Since': LATER })).status).toBe(200);
      expect((await again({ 'If-None-Match': '"1"', 'If-Modified-Since': BEFORE })).status).toBe(304);
    });

    it('RFC 9110, section 13.2.1: conditions and Range apply only to a stored 200', async () => {
      for (const status of [404, 301, 500]) {
        const { ask } = await site(url(), {}, says(WHOLE, { status }));
        await ask();
        const answer = await ask('/a', {
          'If-None-Match': '"1"',
          'If-Modified-Since': LATER,
          Range: 'bytes=0-1',
        });
        expect([answer.status, answer.text]).toEqual([status, 'body']);
      }
    });

    it('RFC 9110, sections 13.1.1 and 13.1.4: If-Match and If-Unmodified-Since have no effect on a stored response', async () => {
      const again = await digits();
      expect((await again({ 'If-Match': '"2"' })).status).toBe(200);
      expect((await again({ 'If-Unmodified-Since': BEFORE })).status).toBe(200);
    });
  });

  describe('RFC 9110, section 9.3.2: HEAD', () => {
    it('a HEAD gets the headers and the Content-Length of the stored response to a GET', async () => {
      const again = await digits();
      const [get, head] = [await again({}), await again({}, 'HEAD')];
      expect(head.headers).toEqual({
        ...get.headers,
        age: head.headers.age,
        'cache-status': head.headers['cache-status'],
      });
      expect([head.status, head.text, head.headers['content-length']]).toEqual([200, '', '10']);
    });

    it('RFC 9110, section 14.2: a HEAD with Range gets the headers of the whole', async () => {
      const answer = await (await digits())({ Range: 'bytes=0-1' }, 'HEAD');
      expect([answer.status, answer.headers['content-length'], answer.headers['content-range']]).toEqual([
        ...[200, '10', undefined],
      ]);
    });
  });

  describe('RFC 9110, section 14: ranges', () => {
    it.each([
      ['bytes=0-0', '0', '0-0'],
      ['bytes=2-5', '2345', '2-5'],
      ['bytes=7-', '789', '7-9'],
      ['bytes=7-999', '789', '7-9'],
      ['bytes=-3', '789', '7-9'],
      ['bytes=-999', DIGITS, '0-9'],
      ['Bytes= 1-2 ', '12', '1-2'],
      ['bytes=,1-2,', '12', '1-2'],
    ])('RFC 9110, section 14.4: Range: %s gets one part', async (range, text, contentRange) => {
      const answer = await (await digits())({ Range: range });
      expect([answer.status, answer.text]).toEqual([206, text]);
      expect(answer.headers).toMatchObject({
        ...{ 'content-range': `bytes ${contentRange}/10`, 'content-length': String(text.length), age: '0' },
        ...{ etag: '"1"', 'content-type': 'text/plain', 'cache-control': 'max-age=60', vary: 'Accept' },
      });
      expect(lastStatus(answer)).toMatch(/^redis-kit; hit; ttl=/);
    });

    it.each(['bytes=10-', 'bytes=10-20', 'bytes=999-', 'bytes=-0'])(
      'RFC 9110, section 15.5.17: Range: %s gets a 416',
      async (range) => {
        const answer = await (await digits())({ Range: range });
        expect([answer.status, answer.text]).toEqual([416, '']);
        expect(answer.headers).toMatchObject({ 'content-range': 'bytes */10', 'content-length': '0' });
        expect(answer.headers['content-type']).toBeUndefined();
      },
    );

    it('RFC 9111, section 3: a 416 has no lifetime, so that no other cache stores the 416', async () => {
      const again = await digits({ ...WHOLE, 'CDN-Cache-Control': 'max-age=60' });
      const { headers } = await again({ Range: 'bytes=10-' });
      for (const name of ['cache-control', 'cdn-cache-control', 'expires']) {
        expect(headers[name], name).toBeUndefined();
      }
    });

    it.each([
      'bytes=0-1,3-4',
      'bytes=0-1, -1',
      'bytes=5-2',
      'bytes=a-b',
      'bytes',
      'lines=0-1',
      'bytes=-',
      '0-1',
    ])('RFC 9110, section 14.2: Range: %s gets the whole', async (range) => {
      const answer = await (await digits())({ Range: range });
      expect([answer.status, answer.text, answer.headers['content-range']]).toEqual([200, DIGITS, undefined]);
    });

    it.each([
      ['"1"', 206],
      ['"2"', 200],
      ['W/"1"', 200],
      [THEN, 206],
      [BEFORE, 200],
      [LATER, 200],
      ['Sun Jan  4 00:00:00 2015', 200],
      ['', 200],
    ])('RFC 9110, section 13.1.5: If-Range: %s gets a %i', async (condition, status) => {
      expect((await (await digits())({ Range: 'bytes=0-1', 'If-Range': condition })).status).toBe(status);
    });

    it('RFC 9110, section 13.1.5: If-Range with a weak ETag, or with a Last-Modified equal to Date, gets the whole', async () => {
      const weak = await digits({ ETag: 'W/"1"' });
      expect((await weak({ Range: 'bytes=0-1', 'If-Range': 'W/"1"' })).status).toBe(200);
      const now = dateIn(0);
      const young = await digits({ 'Last-Modified': now, Date: now });
      expect((await young({ Range: 'bytes=0-1', 'If-Range': now })).status).toBe(200);
    });

    it('RFC 9110, section 13.1.5: If-Range without Range has no effect', async () => {
      expect((await (await digits())({ 'If-Range': '"1"' })).status).toBe(200);
    });

    it('RFC 9110, section 13.2.2: a request with Range and a matching If-None-Match gets a 304', async () => {
      expect((await (await digits())({ 'If-None-Match': '"1"', Range: 'bytes=0-1' })).status).toBe(304);
      expect((await (await digits())({ 'If-None-Match': '"2"', Range: 'bytes=0-1' })).status).toBe(206);
    });

    it('a first-byte range of an empty body gets a 416, and a suffix range the whole', async () => {
      const again = await stored(says(WHOLE, { body: '' }));
      expect((await again({ Range: 'bytes=0-' })).status).toBe(416);
      expect((await again({ Range: 'bytes=-5' })).status).toBe(200);
    });
  });
});
