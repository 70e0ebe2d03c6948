import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { beforeAll, describe, expect, it } from 'vitest';
import { packInfo, unpackResponse } from '../../../src/cache/http/cached-response.ts';
import type { CacheOptions, KitOptions, RedisKit } from '../../../src/index.ts';
import { EXPRESS } from '../../http/frameworks.ts';
import { describeBySeconds, eventsOf, kitForTest, testPrefix } from '../../support/kits.ts';
import { type Answer, type Sent, send, serve } from '../../support/web.ts';
import { agingKit } from '../aging.ts';
import { loadCacheScripts } from '../scripts.ts';
import { dateIn, lastStatus } from './site.ts';

/** The representation: 20 bytes, each of which shows its position. */
const LETTERS = 'abcdefghijklmnopqrst';

type Handle = (req: IncomingMessage, res: ServerResponse) => void;
type Cache = ReturnType<RedisKit['cache']>;

const SERVERS: readonly (readonly [
  name: string,
  mount: (cache: Cache, handle: Handle) => RequestListener,
])[] = [
  ...EXPRESS.map(
    ([name, makeApp]) =>
      [name, (cache: Cache, handle: Handle) => makeApp().use(cache).use(handle) as RequestListener] as const,
  ),
  [
    'node:http',
    (cache, handle) => (req, res) => {
      const next = (error?: unknown) => (error === undefined ? handle(req, res) : void res.destroy());
      Reflect.apply(cache, undefined, [req, res, next]);
    },
  ],
];

type Fields = Readonly<Record<string, string>>;
const STRONG: Fields = { 'Cache-Control': 'max-age=60', 'Content-Type': 'text/plain', ETag: '"1"' };

/** A handler that sends single ranges of the letters, and whose whole may not be stored. */
function parts(fields: () => Fields = () => STRONG, letters = LETTERS): Handle {
  return (req, res) => {
    const own = fields();
    const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(req.headers.range ?? '') ?? [];
    const condition = req.headers['if-range'];
    const isWhole = first + last === '' || (condition !== undefined && condition !== own.ETag);
    for (const [name, value] of Object.entries(own)) res.setHeader(name, value);
    if (isWhole) {
      res.setHeader('Cache-Control', 'private');
      // The cache judges the head first, and sees the length of the body later.
      res.flushHeaders();
      res.end(letters);
      return;
    }
    const start = first === '' ? letters.length - Number(last) : Number(first);
    const end = first === '' || last === '' ? letters.length - 1 : Number(last);
    res.statusCode = start < letters.length ? 206 : 416;
    res.setHeader('Content-Range', `bytes ${start}-${end}/${letters.length}`);
    res.end(letters.slice(start, end + 1));
  };
}

describeBySeconds('RFC 9111, sections 3.3 and 3.4: partial content', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  describe.each(SERVERS)('on %s', (_name, mount) => {
    /** A page whose whole is known not to be storable, so that its handler sees Range. */
    async function page(handle: Handle, { kit: given, ...options }: CacheOptions & { kit?: RedisKit } = {}) {
      const aging = agingKit(url());
      const kit = given ?? aging.kit;
      let runs = 0;
      const cache = kit.cache({ local: aging.local, ...options });
      const address = await serve(
        mount(cache, (req, res) => {
          runs++;
          handle(req, res);
        }),
      );
      const skipped = eventsOf(kit, 'cache:skipped');
      const stored = eventsOf(kit, 'cache:stored');
      const ask = (headers: Fields = {}, sent: Sent = {}) => send(`${address}/a`, { ...sent, headers });
      await ask();
      /** Whether the request was answered without a run of the handler. */
      const isHit = async (headers: Fields, sent?: Sent): Promise<boolean> => {
        const before = runs;
        const { headers: answered } = await ask(headers, sent);
        expect(answered.age !== undefined).toBe(runs === before);
        return runs === before;
      };
      const part = async (range: string, more: Fields = {}): Promise<Answer> => {
        const answer = await ask({ Range: `bytes=${range}`, ...more });
        expect(answer.status).toBe(206);
        return answer;
      };
      return { kit, address, ask, part, isHit, skipped, stored, pass: aging.pass, runs: () => runs };
    }

    describe('RFC 9111, section 3.3: the 206 of a handler', () => {
      it.each([
        ['bytes=10-14', 'klmno', '10-14'],
        ['bytes=8-8', 'i', '8-8'],
        ['bytes=8-', 'ijklmnopqrst', '8-19'],
        ['bytes=18-99', 'st', '18-19'],
        ['bytes=-3', 'rst', '17-19'],
        ['Bytes= 9-10 ', 'jk', '9-10'],
      ])('the stored part bytes=0-9 answers %s, a range inside of it', async (range, text, contentRange) => {
        const { ask, part, runs } = await page(parts());
        await part('8-19');
        const before = runs();
        const answer = await ask({ Range: range });
        expect([answer.status, answer.text, runs()]).toEqual([206, text, before]);
        expect(answer.headers).toMatchObject({
          ...{ 'content-range': `bytes ${contentRange}/20`, 'content-length': String(text.length), age: '0' },
          ...{ etag: '"1"', 'content-type': 'text/plain', 'cache-control': 'max-age=60' },
        });
        expect(lastStatus(answer)).toMatch(/^redis-kit; hit; ttl=(59|60)$/);
      });

      it.each([
        'bytes=7-10',
        'bytes=15-16',
        'bytes=10-15',
        'bytes=8-',
        'bytes=-3',
        'bytes=20-',
        'bytes=8-9,10-11',
        'bytes=10-9',
        'lines=8-9',
      ])('the stored part bytes=0-9 does not answer %s', async (range) => {
        const { isHit, part } = await page(parts());
        await part('8-14');
        expect(await isHit({ Range: range })).toBe(false);
      });

      it('a stored part never answers a request for the whole', async () => {
        const { ask, part, runs } = await page(parts());
        await part('0-9');
        const before = runs();
        for (const method of ['GET', 'HEAD']) {
          const { status, headers, text } = await ask({}, { method });
          expect([status, headers['content-range'], headers.age]).toEqual([200, undefined, undefined]);
          expect(text).toBe(method === 'GET' ? LETTERS : '');
        }
        const head = await ask({ Range: 'bytes=0-1' }, { method: 'HEAD' });
        expect(head.headers.age).toBeUndefined();
        expect(runs()).toBe(before + 3);
      });

      it('a part without a validator is stored, and answers ranges inside of it', async () => {
        const { isHit, part } = await page(parts(() => ({ 'Cache-Control': 'max-age=60' })));
        await part('0-9');
        expect(await isHit({ Range: 'bytes=2-3' })).toBe(true);
      });

      it('a stored part has the lifetime in its headers, and is not sent when it is stale', async () => {
        const stale = 'max-age=60, stale-while-revalidate=600, stale-if-error=600';
        const { isHit, part, pass } = await page(parts(() => ({ ...STRONG, 'Cache-Control': stale })));
        await part('0-9');
        await pass(59_000);
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(true);
        await pass(2_000);
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
      });

      it('a stored part has the lifetime of the option `ttl`', async () => {
        const { isHit, part, pass } = await page(
          parts(() => ({ ETag: '"1"' })),
          { ttl: '10s' },
        );
        await part('0-9');
        await pass(9_000);
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(true);
        await pass(2_000);
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
      });

      it('with honored request directives, a stored part answers a request with only-if-cached', async () => {
        const { ask, part } = await page(parts(), { requestDirectives: 'honor' });
        await part('0-9');
        const only = { 'Cache-Control': 'only-if-cached' };
        expect((await ask({ ...only, Range: 'bytes=1-2' })).text).toBe('bc');
        expect((await ask({ ...only, Range: 'bytes=1-12' })).status).toBe(504);
        expect((await ask(only)).status).toBe(504);
      });

      it('with honored request directives, a stored part does not answer a request with no-cache', async () => {
        const { isHit, part } = await page(parts(), { requestDirectives: 'honor' });
        await part('0-9');
        expect(await isHit({ Range: 'bytes=1-2', 'Cache-Control': 'no-cache' })).toBe(false);
      });

      it('RFC 9211, section 2.2: Cache-Status has fwd=partial for a range that the stored part does not contain', async () => {
        const { part, stored } = await page(parts());
        await part('0-9');
        await expect.poll(() => stored.length).toBe(1);
        expect(lastStatus(await part('8-12'))).toMatch(/^redis-kit; fwd=partial/);
      });

      it('a stored part does not replace a stored whole response', async () => {
        let isPublic = true;
        const whole = parts();
        const { ask, isHit } = await page((req, res) => {
          if (!isPublic) whole(req, res);
          else res.setHeader('Cache-Control', 'max-age=600').end(LETTERS);
        });
        isPublic = false;
        expect((await ask({ Range: 'bytes=0-3' })).text).toBe('abcd');
        expect((await ask()).headers.age).toBe('0');
        expect(await isHit({ Range: 'bytes=4-9' })).toBe(true);
      });
    });

    describe('RFC 9111, section 3: a 206 that is not stored', () => {
      const answers: readonly [why: string, fields: Fields, body?: string][] = [
        ['has several parts', { 'Content-Type': 'multipart/byteranges; boundary=x', 'Content-Range': '' }],
        ['does not name the length of the whole', { 'Content-Range': 'bytes 0-9/*' }],
        ['has less content than it names', { 'Content-Range': 'bytes 0-9/20' }, 'abcdefghi'],
        ['has more content than it names', { 'Content-Range': 'bytes 0-9/20' }, 'abcdefghijk'],
        ['ends before it begins', { 'Content-Range': 'bytes 9-0/20' }],
        ['ends after the whole', { 'Content-Range': 'bytes 11-20/20' }],
        ['has another unit', { 'Content-Range': 'lines 0-9/20' }],
        ['is private', { 'Cache-Control': 'private, max-age=60' }],
        ['is no-store', { 'Cache-Control': 'no-store, max-age=60' }],
        ['sets a cookie', { 'Set-Cookie': 'a=b' }],
        ['varies on anything', { Vary: '*' }],
        ['has no lifetime', { 'Cache-Control': '' }],
      ];
      it.each<[why: string, fields: Fields, body?: string]>(answers)(
        'a 206 that %s is not stored',
        async (_why, fields, body = LETTERS.slice(0, 10)) => {
          const { ask, isHit, stored } = await page((req, res) => {
            const range = { 'Content-Range': 'bytes 0-9/20' };
            const head =
              req.headers.range === undefined
                ? { 'Cache-Control': 'private' }
                : { ...STRONG, ...range, ...fields };
            for (const [name, value] of Object.entries(head)) if (value !== '') res.setHeader(name, value);
            res.statusCode = req.headers.range === undefined ? 200 : 206;
            res.end(body);
          });
          expect((await ask({ Range: 'bytes=0-9' })).text).toBe(body);
          expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
          expect(stored).toEqual([]);
        },
      );

      it('a 206 over `maxBody` is not stored', async () => {
        const { isHit, part, skipped } = await page(parts(), { maxBody: 9 });
        await part('0-9');
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
        expect(skipped.at(-1)?.reason).toBe('too-large');
      });

      it('a 206 to a request without Range is not stored', async () => {
        const { ask, stored } = await page((_req, res) => {
          res.writeHead(206, { ...STRONG, 'Content-Range': 'bytes 0-9/20' }).end(LETTERS.slice(0, 10));
        });
        await ask();
        expect((await ask({ Range: 'bytes=0-1' })).headers.age).toBeUndefined();
        await expect.poll(() => stored.length).toBe(1);
      });

      it('a 206 that is cut off is not stored', async () => {
        const whole = parts();
        let isCut = true;
        const { ask, isHit } = await page((req, res) => {
          if (req.headers.range === undefined || !isCut) {
            whole(req, res);
            return;
          }
          res.writeHead(206, { ...STRONG, 'Content-Range': 'bytes 0-9/20', 'Content-Length': '10' });
          res.write('abc', () => res.destroy());
        });
        await expect(ask({ Range: 'bytes=0-9' })).rejects.toThrow();
        isCut = false;
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
      });

      it('RFC 9110, section 15.3.7: a 206 whose handler saw If-Range is not stored, since the 206 may omit headers', async () => {
        const { isHit, part } = await page(parts());
        await part('0-9', { 'If-Range': '"1"' });
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
      });
    });

    describe('RFC 9110, section 13: conditions beside Range', () => {
      const modified = 'Sat, 03 Jan 2015 00:00:00 GMT';
      it.each([
        ['"1"', true],
        ['"2"', false],
        ['W/"1"', false],
        [modified, true],
        ['Sun, 04 Jan 2015 00:00:00 GMT', false],
      ])(
        'RFC 9110, section 13.1.5: a request with If-Range: %s gets the stored part: %s',
        async (condition, isHitExpected) => {
          const { ask, part, isHit } = await page(parts(() => ({ ...STRONG, 'Last-Modified': modified })));
          await part('0-9');
          const headers = { Range: 'bytes=2-3', 'If-Range': condition };
          expect(await isHit(headers)).toBe(isHitExpected);
          const { status, text } = await ask(headers);
          expect([status, text]).toEqual(isHitExpected ? [206, 'cd'] : [200, LETTERS]);
        },
      );

      it('RFC 9110, section 13.1.5: If-Range with a weak ETag, or with a Last-Modified equal to Date, gets no stored part', async () => {
        const weak = await page(parts(() => ({ ...STRONG, ETag: 'W/"1"' })));
        await weak.part('0-9');
        expect(await weak.isHit({ Range: 'bytes=2-3', 'If-Range': 'W/"1"' })).toBe(false);
        const now = dateIn(0);
        const young = await page(parts(() => ({ ...STRONG, 'Last-Modified': now, Date: now })));
        await young.part('0-9');
        expect(await young.isHit({ Range: 'bytes=2-3', 'If-Range': now })).toBe(false);
      });

      it('RFC 9110, section 13.1.2: a request with the ETag of a stored part in If-None-Match gets a 304', async () => {
        const { ask, part, runs } = await page(parts());
        await part('0-9');
        const before = runs();
        const { status, text, headers } = await ask({ Range: 'bytes=2-3', 'If-None-Match': '"1"' });
        expect([status, text, headers['content-range'], runs()]).toEqual([304, '', undefined, before]);
        expect((await ask({ Range: 'bytes=2-3', 'If-None-Match': '"2"' })).text).toBe('cd');
      });
    });

    describe('RFC 9111, section 3.4: two parts', () => {
      const dated = (seconds: number): Fields => ({
        'Cache-Control': 'max-age=60',
        Date: dateIn(0),
        'Last-Modified': dateIn(seconds),
      });
      const validators: readonly (readonly [name: string, isCombined: boolean, fields: () => Fields])[] = [
        ['a strong ETag', true, () => STRONG],
        ['a weak ETag', false, () => ({ ...STRONG, ETag: 'W/"1"' })],
        ['an ETag that is malformed', false, () => ({ ...STRONG, ETag: '1' })],
        ['a Last-Modified a second before Date', true, () => dated(-1)],
        ['a Last-Modified at Date', false, () => dated(0)],
        ['a weak ETag beside an old Last-Modified', false, () => ({ ...dated(-60), ETag: 'W/"1"' })],
        ['no validator', false, () => ({ 'Cache-Control': 'max-age=60' })],
      ];
      it.each(validators)('two parts are combined with %s: %s', async (_name, isCombined, fields) => {
        const { isHit, part } = await page(parts(fields));
        await part('2-7');
        await part('6-11');
        expect(await isHit({ Range: 'bytes=6-11' })).toBe(true);
        expect(await isHit({ Range: 'bytes=2-11' })).toBe(isCombined);
      });

      it.each([
        ['2-7', '8-11', '2-11'],
        ['8-11', '2-7', '2-11'],
        ['4-7', '2-11', '2-11'],
        ['2-7', '4-11', '2-11'],
      ])('the parts %s and %s make %s', async (first, second, both) => {
        const { ask, part, runs } = await page(parts());
        await part(first);
        await part(second);
        const before = runs();
        const { text } = await ask({ Range: `bytes=${both}` });
        expect([text, runs()]).toEqual([LETTERS.slice(2, 12), before]);
      });

      it('two parts with a gap between them, or over maxBody together, are not combined', async () => {
        const { isHit, part } = await page(parts(), { maxBody: 10 });
        await part('0-3');
        await part('5-9');
        expect(await isHit({ Range: 'bytes=0-3' })).toBe(false);
        expect(await isHit({ Range: 'bytes=0-3' })).toBe(true);
        await part('4-11');
        expect(await isHit({ Range: 'bytes=4-11' })).toBe(true);
        expect(await isHit({ Range: 'bytes=0-3' })).toBe(false);
      });

      it('two parts with different ETags are not combined', async () => {
        let etag = '"1"';
        const [older, newer] = [
          parts(() => ({ ...STRONG, ETag: '"1"' })),
          parts(() => ({ ...STRONG, ETag: '"2"' }), LETTERS.toUpperCase()),
        ];
        const { ask, part } = await page((req, res) => (etag === '"1"' ? older : newer)(req, res));
        await part('0-9');
        etag = '"2"';
        await part('5-14');
        expect((await ask({ Range: 'bytes=0-14' })).text).toBe('ABCDEFGHIJKLMNO');
        expect((await ask({ Range: 'bytes=0-14' })).headers).toMatchObject({ etag: '"2"', age: '0' });
      });

      it('two parts with the same ETag are not combined when their wholes differ in length', async () => {
        let handle = parts();
        const { isHit, part } = await page((req, res) => handle(req, res));
        await part('0-9');
        handle = parts(() => STRONG, `${LETTERS}u`);
        await part('10-14');
        expect(await isHit({ Range: 'bytes=0-14' })).toBe(false);
      });

      it('a combined part has the headers of the later part, and those that only the earlier part has', async () => {
        let fields: Fields = { ...STRONG, 'X-A': '1', 'X-B': '1' };
        const { ask, part } = await page(parts(() => fields));
        await part('0-9');
        fields = { ...STRONG, 'X-B': '2', 'Cache-Control': 'max-age=30' };
        await part('10-14');
        const { headers, text } = await ask({ Range: 'bytes=8-12' });
        expect(text).toBe('ijklm');
        expect(headers).toMatchObject({ 'x-a': '1', 'x-b': '2', 'cache-control': 'max-age=30', age: '0' });
      });

      it('two parts that contain every byte are stored as the whole response', async () => {
        const { ask, part, runs } = await page(parts());
        await part('0-9');
        await part('10-19');
        const before = runs();
        const whole = await ask();
        expect([whole.status, whole.text, runs()]).toEqual([200, LETTERS, before]);
        expect(whole.headers).toMatchObject({ etag: '"1"', 'content-length': '20', age: '0' });
        expect(whole.headers['content-range']).toBeUndefined();
        expect((await ask({ Range: 'bytes=0-9' })).text).toBe(LETTERS.slice(0, 10));
      });

      it('two parts are combined when the handler saw If-Range for the second', async () => {
        const { isHit, part } = await page(parts());
        await part('0-9');
        await part('10-14', { 'If-Range': '"1"' });
        expect(await isHit({ Range: 'bytes=0-14' })).toBe(true);
      });
    });

    describe('the rules for stored parts that hold for a 200 too', () => {
      it('RFC 9111, section 4.1: a stored part answers only requests with the same values of the headers in Vary', async () => {
        const { isHit, part } = await page(parts(() => ({ ...STRONG, Vary: 'Accept' })));
        await part('0-9', { Accept: 'a' });
        expect(await isHit({ Range: 'bytes=0-9', Accept: 'a' })).toBe(true);
        expect(await isHit({ Range: 'bytes=0-9', Accept: 'b' })).toBe(false);
      });

      it('RFC 9111, section 4.1: parts of two variants are not combined', async () => {
        const { isHit, part } = await page(parts(() => ({ ...STRONG, Vary: 'Accept' })));
        await part('0-9', { Accept: 'a' });
        await part('10-14', { Accept: 'b' });
        for (const accept of ['a', 'b']) {
          expect(await isHit({ Range: 'bytes=0-14', Accept: accept })).toBe(false);
        }
      });

      it('RFC 9111, section 3.5: a part for a request with Authorization answers no later request', async () => {
        const { isHit, part } = await page(parts());
        await part('0-9', { Authorization: 'Basic YTpi' });
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
        expect(await isHit({ Range: 'bytes=0-9', Authorization: 'Basic YTpi' })).toBe(false);
      });

      it('RFC 9111, section 4.4: an unsafe request invalidates a stored part', async () => {
        const { ask, isHit, part } = await page(parts());
        await part('0-9');
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(true);
        await ask({}, { method: 'POST' });
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
      });

      it('a combined part is invalidated by its URL and by the tags of both parts', async () => {
        let tag = 'first';
        const { kit, isHit, part } = await page(parts(), { tags: () => [tag] });
        const stored = async () => {
          tag = 'first';
          await part('0-4');
          tag = 'second';
          await part('5-9');
          expect(await isHit({ Range: 'bytes=0-9' })).toBe(true);
        };
        for (const target of [{ url: '/a' }, { tags: 'first' }, { tags: 'second' }, { all: true } as const]) {
          await stored();
          await kit.invalidate(target);
          expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
          await kit.invalidate({ all: true });
        }
      });

      it('RFC 9875, section 2: a combined part is invalidated by its group as a tag', async () => {
        const { kit, isHit, part } = await page(parts(() => ({ ...STRONG, 'Cache-Groups': '"letters"' })));
        await part('0-4');
        await part('5-9');
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(true);
        await kit.invalidate({ tags: 'letters' });
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
      });

      it('RFC 9111, section 5.2.2.4: a part with no-cache is not stored, even with an ETag', async () => {
        const { isHit, part, skipped } = await page(
          parts(() => ({ ...STRONG, 'Cache-Control': 'no-cache, max-age=60' })),
        );
        await part('0-9');
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
        expect(skipped.at(-1)?.reason).toBe('no-cache');
      });

      it('RFC 9111, section 4.3: a stale part is not validated, and a stale whole made of parts is validated', async () => {
        const whole = parts();
        const conditions: unknown[] = [];
        const { ask, isHit, part, pass } = await page((req, res) => {
          const { 'if-none-match': condition, range } = req.headers;
          conditions.push(condition);
          if (condition === undefined || range !== undefined) whole(req, res);
          else res.writeHead(304, STRONG).end();
        });
        await part('0-9');
        await pass(61_000);
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
        await part('10-19');
        await pass(61_000);
        const { status, text, headers } = await ask({ Range: 'bytes=5-14' });
        expect([status, text, headers['content-range']]).toEqual([206, 'fghijklmno', 'bytes 5-14/20']);
        expect(conditions).toEqual([undefined, undefined, undefined, undefined, '"1"']);
        expect(await isHit({})).toBe(true);
      });

      it('a part is not used when its URL is invalidated while the handler runs', async () => {
        const whole = parts();
        let purge = async (): Promise<void> => undefined;
        const { kit, isHit, part } = await page((req, res) => void purge().then(() => whole(req, res)));
        purge = () => kit.invalidate({ url: '/a' });
        await part('0-9');
        purge = async () => undefined;
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(true);
      });

      it('a part is not stored when its handler read an identity', async () => {
        const whole = parts();
        const { isHit, part, skipped } = await page((req, res) => {
          Reflect.get(req.headers, 'cookie');
          whole(req, res);
        });
        await part('0-9', { Cookie: 'a=b' });
        expect(await isHit({ Range: 'bytes=0-9' })).toBe(false);
        expect(skipped.at(-1)?.reason).toBe('cookie-read');
      });
    });

    it('a part that one process stores answers the requests of another', async () => {
      if (url() === 'memory:') return;
      const options = { url: url(), prefix: testPrefix() } as KitOptions;
      const one = await page(parts(), { kit: kitForTest(options), key: { host: false } });
      await one.part('0-9');
      const other = await page(parts(), { kit: kitForTest(options), key: { host: false } });
      expect(await other.isHit({ Range: 'bytes=2-3' })).toBe(true);
    });
  });
});

describe('the stored bytes of a part', () => {
  const body = Buffer.from('abcd');
  const part = { start: 2, end: 5, length: 20, tags: ['t'] };
  const stored = {
    ...{
      status: 206,
      flat: ['ETag', '"1"'],
      removed: [],
      etag: '"1"',
      lastModified: undefined,
      date: undefined,
    },
    ...{ vary: { names: '', id: '' }, isForAll: false, body, part },
  };
  const packed = () => JSON.parse(JSON.stringify(packInfo(stored))) as unknown[];

  it('an unpacked part equals the part that was packed', () => {
    expect(unpackResponse(packed(), body)).toMatchObject({ status: 206, part, etag: '"1"' });
  });

  it.each([
    ['is no list', 'x'],
    ['has no length', [2, 5]],
    ['begins after its end', [5, 2, 20, []]],
    ['ends after the whole', [2, 5, 5, []]],
    ['is longer than the body', [2, 6, 20, []]],
    ['has no tags', [2, 5, 20]],
    ['has a start that is no number', ['2', 5, 20, []]],
  ])('unpackResponse() returns undefined for a part when its packed range %s', (_why, range) => {
    expect(unpackResponse([...packed().slice(0, 6), range], body)).toBeUndefined();
  });
});
