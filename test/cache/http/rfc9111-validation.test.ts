import { createHash } from 'node:crypto';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { CacheOptions, RedisKit } from '../../../src/index.ts';
import { APPS } from '../../http/frameworks.ts';
import { redisUrl } from '../../support/context.ts';
import { describeBySeconds, eventsOf, testPrefix } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { until } from '../../support/until.ts';
import { type Sent, send, serve } from '../../support/web.ts';
import { agingKit } from '../aging.ts';
import { loadCacheScripts } from '../scripts.ts';
import { lastStatus } from './site.ts';

type Handler = (req: IncomingMessage, res: ServerResponse) => unknown;
type Options = CacheOptions<IncomingMessage>;
type Make = (kit: RedisKit, options: Options, handler: Handler) => RequestListener;

const OLD = 'Sat, 03 Jan 2015 00:00:00 GMT';

/** The ways to put a handler behind a cache. */
const FORMS: readonly (readonly [name: string, make: Make])[] = [
  ...APPS.map(([name, makeApp]): [string, Make] => [
    name,
    (kit, options, handler) => {
      const app = makeApp();
      app.use(kit.cache(options));
      app.use((req, res) => void handler(req, res));
      return app;
    },
  ]),
  [
    'node:http',
    (kit, options, handler) => {
      const cached = kit.cache<IncomingMessage, ServerResponse>(options, handler);
      return (req, res) => cached(req, res, () => res.writeHead(500).end());
    },
  ],
];

const FORM = FORMS[0]?.[1] ?? (() => () => undefined);

/** A handler with one ETag that responds to a matching condition with a 304. */
function tagged(
  headers: Readonly<Record<string, string>>,
  etag: () => string = () => '"1"',
  body: () => string = () => 'body',
): Handler {
  return (req, res) => {
    for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
    res.setHeader('ETag', etag());
    if (req.headers['if-none-match'] === etag()) res.writeHead(304).end();
    else res.end(body());
  };
}

describeBySeconds('RFC 9111, section 4.3: validation', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  /** A page behind a cache, and the conditions that its handler got. */
  async function page(handler: Handler, { make = FORM, ...options }: Options & { make?: Make } = {}) {
    const { kit, local, pass } = agingKit(url());
    const [stored, skipped] = [eventsOf(kit, 'cache:stored'), eventsOf(kit, 'cache:skipped')];
    const asked: (readonly [
      etag: string | undefined,
      since: string | undefined,
      range: string | undefined,
    ])[] = [];
    const noted: Handler = (req, res) => {
      const { 'if-none-match': etag, 'if-modified-since': since, range } = req.headers;
      asked.push([etag, since, range]);
      return handler(req, res);
    };
    const address = await serve(make(kit, { local, ...options }, noted));
    return {
      ...{ kit, pass, stored, skipped, asked },
      ask: (headers: Sent['headers'] = {}, method = 'GET') => send(`${address}/a`, { headers, method }),
      storedAll: (count: number) =>
        until(`${count} responses are stored`, () => stored.length >= count, 60_000),
    };
  }

  describe.each(FORMS)('on %s', (_form, make) => {
    it('RFC 9111, section 4.3.1: the handler gets the validators of the stale response in place of the conditions of the client', async () => {
      const after: (string | undefined)[] = [];
      const { ask, pass, storedAll, asked } = await page(
        (req, res) => {
          res.on('finish', () => after.push(req.headers['if-none-match']));
          res.setHeader('Last-Modified', OLD);
          return tagged({ 'Cache-Control': 'max-age=10' })(req, res);
        },
        { make },
      );
      await ask();
      await storedAll(1);
      await pass(11_000);
      await ask({ 'If-None-Match': '"mine"', Range: 'bytes=0-1' });
      expect(asked).toEqual([
        [undefined, undefined, undefined],
        ['"1"', OLD, undefined],
      ]);
      await until('the response is sent', () => after.length === 2);
      expect(after[1], 'the conditions of the client are back').toBe('"mine"');
    });

    it('RFC 9111, section 4.3.4: a 304 freshens the stored response, which is sent and stored again', async () => {
      let run = 0;
      const { ask, pass, storedAll, asked } = await page(
        (req, res) => {
          run++;
          res.setHeader('X-Run', run);
          if (run === 1) res.setHeader('X-Kept', 'kept').setHeader('Content-Type', 'text/x-first');
          else res.setHeader('Content-Type', 'text/x-second');
          return tagged({ 'Cache-Control': run === 1 ? 'max-age=10' : 'max-age=30' })(req, res);
        },
        { make },
      );
      await ask();
      await storedAll(1);
      await pass(11_000);
      const validated = await ask();
      expect([validated.status, validated.text]).toEqual([200, 'body']);
      const fresh = { 'x-run': '2', 'x-kept': 'kept', 'content-type': 'text/x-first', etag: '"1"' };
      expect(validated.headers).toMatchObject({
        ...fresh,
        'content-length': '4',
        'cache-control': 'max-age=30',
      });
      expect(lastStatus(validated)).toBe('redis-kit; fwd=stale; fwd-status=304; stored');
      await storedAll(2);
      await pass(29_000);
      const hit = await ask();
      expect([hit.status, hit.text, hit.headers.age]).toEqual([200, 'body', '29']);
      expect(hit.headers).toMatchObject({ ...fresh, 'content-length': '4' });
      expect(asked).toHaveLength(2);
    });

    it('RFC 9111, section 4.3.3: a handler response with another status than 304 replaces the stored response', async () => {
      let version = 1;
      const { ask, pass, storedAll, asked } = await page(
        tagged(
          { 'Cache-Control': 'max-age=10' },
          () => `"${version}"`,
          () => `body ${version}`,
        ),
        { make },
      );
      await ask();
      await storedAll(1);
      await pass(11_000);
      version = 2;
      const made = await ask();
      expect([made.status, made.text, made.headers.etag]).toEqual([200, 'body 2', '"2"']);
      await storedAll(2);
      expect((await ask()).text).toBe('body 2');
      expect(asked.map(([etag]) => etag)).toEqual([undefined, '"1"']);
    });

    it('RFC 9111, section 4.3.2: after a validation, the conditions and Range of the client decide between a 304, a part and the whole', async () => {
      const { ask, pass, storedAll } = await page(tagged({ 'Cache-Control': 'max-age=10' }), { make });
      await ask();
      await storedAll(1);
      await pass(11_000);
      const unchanged = await ask({ 'If-None-Match': '"0", "1"' });
      expect([unchanged.status, unchanged.text, unchanged.headers.etag]).toEqual([304, '', '"1"']);
      expect(unchanged.headers['content-length']).toBeUndefined();
      await storedAll(2);
      await pass(11_000);
      const part = await ask({ Range: 'bytes=1-2' });
      expect([part.status, part.text, part.headers['content-range']]).toEqual([206, 'od', 'bytes 1-2/4']);
      await storedAll(3);
      await pass(11_000);
      const other = await ask({ 'If-None-Match': '"2"' });
      expect([other.status, other.text]).toEqual([200, 'body']);
    });

    it('RFC 9111, section 5.2.2.2: a stale response with must-revalidate is validated, and never sent instead of an error', async () => {
      let fails = false;
      const { ask, pass, storedAll } = await page(
        (req, res) =>
          fails
            ? res.writeHead(503).end('failed')
            : tagged({ 'Cache-Control': 'max-age=10, must-revalidate, stale-if-error=60' })(req, res),
        { make },
      );
      await ask();
      await storedAll(1);
      await pass(11_000);
      expect(await ask()).toMatchObject({ status: 200, text: 'body' });
      await storedAll(2);
      await pass(11_000);
      fails = true;
      expect(await ask()).toMatchObject({ status: 503, text: 'failed' });
    });

    it.each(['no-cache', 'no-cache, max-age=600'])(
      'RFC 9111, section 5.2.2.4: a response with %s and an ETag is validated for each request',
      async (control) => {
        let version = 1;
        const { ask, storedAll, asked } = await page(
          tagged(
            { 'Cache-Control': control },
            () => `"${version}"`,
            () => `body ${version}`,
          ),
          { make },
        );
        expect((await ask()).text).toBe('body 1');
        await storedAll(1);
        const validated = await ask();
        expect([validated.status, validated.text]).toEqual([200, 'body 1']);
        expect(lastStatus(validated)).toBe('redis-kit; fwd=stale; fwd-status=304; stored');
        await storedAll(2);
        version = 2;
        expect((await ask()).text).toBe('body 2');
        await storedAll(3);
        expect(await ask({ 'If-None-Match': '"2"' })).toMatchObject({ status: 304, text: '' });
        expect(asked.map(([etag]) => etag)).toEqual([undefined, '"1"', '"1"', '"2"']);
      },
    );

    it('RFC 9111, section 4.3.3: the 200 of a handler that ignores the conditions replaces the stored response', async () => {
      let run = 0;
      const { ask, pass, storedAll } = await page(
        (_req, res) => {
          res.setHeader('Cache-Control', 'max-age=10').setHeader('ETag', '"1"').end(`body ${++run}`);
        },
        { make },
      );
      await ask();
      await storedAll(1);
      await pass(11_000);
      expect(await ask()).toMatchObject({ status: 200, text: 'body 2' });
      await storedAll(2);
      expect((await ask()).text).toBe('body 2');
    });

    it('RFC 9111, section 4.3: a HEAD for a stale response reaches the handler with the conditions of its client', async () => {
      const { ask, pass, storedAll, asked, stored } = await page(tagged({ 'Cache-Control': 'max-age=10' }), {
        make,
      });
      await ask();
      await storedAll(1);
      await pass(11_000);
      expect((await ask({ 'If-None-Match': '"0"' }, 'HEAD')).status).toBe(200);
      expect(asked[1]?.[0]).toBe('"0"');
      expect(stored).toHaveLength(1);
    });
  });

  it.each([
    ['a minute where its lifetime is shorter', 10, 69, 71],
    ['its lifetime again', 600, 1199, 1201],
    ['an hour where its lifetime is longer', 7_200, 10_799, 10_801],
  ])(
    'RFC 9111, section 4.3: a stale response is kept for validation for %s',
    async (_, maxAge, before, after) => {
      const { ask, pass, storedAll, asked } = await page(tagged({ 'Cache-Control': `max-age=${maxAge}` }));
      await ask();
      await storedAll(1);
      await pass(before * 1_000);
      await ask();
      expect(asked[1]?.[0]).toBe('"1"');
      await storedAll(2);
      await pass(after * 1_000);
      await ask();
      expect(asked[2]?.[0]).toBeUndefined();
    },
  );

  it('RFC 9111, section 4.3: a response with Last-Modified alone is validated when it is stale', async () => {
    const { ask, pass, storedAll } = await page((req, res) => {
      res.setHeader('Cache-Control', 'max-age=10').setHeader('Last-Modified', OLD);
      if (req.headers['if-modified-since'] === OLD) res.writeHead(304).end();
      else res.end('body');
    });
    await ask();
    await storedAll(1);
    await pass(11_000);
    const validated = await ask();
    expect([validated.status, validated.text]).toEqual([200, 'body']);
    expect(lastStatus(validated)).toContain('fwd-status=304');
  });

  it.each([
    ['without a validator', {}],
    ['with Last-Modified alone', { 'Last-Modified': OLD }],
  ])('RFC 9111, section 5.2.2.4: a no-cache response %s is not stored', async (_, headers) => {
    const { ask, stored, skipped, asked } = await page((_req, res) => {
      for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
      res.setHeader('Cache-Control', 'no-cache').end('body');
    });
    await ask();
    await until('the response is skipped', () => skipped.length === 1);
    expect(skipped[0]).toMatchObject({ reason: 'no-cache' });
    await ask();
    expect(asked.map(([etag]) => etag)).toEqual([undefined, undefined]);
    expect(stored).toEqual([]);
  });

  it.each<Options>([{ ttl: '1m' }, { staleWhileRevalidate: '1m', staleIfError: '1m' }])(
    'RFC 9111, section 5.2.2.4: with the options %o, a no-cache response is still validated for each request',
    async (options) => {
      const { ask, storedAll, asked } = await page(tagged({ 'Cache-Control': 'no-cache' }), options);
      await ask();
      await storedAll(1);
      await ask();
      expect(asked[1]?.[0]).toBe('"1"');
    },
  );

  it('RFC 9111, section 4.3.4: requests that wait for a validation get the freshened response', async () => {
    let open: (() => void) | undefined;
    let arrived = 0;
    const make: Make = (...args) => {
      const app = FORM(...args);
      return (req, res) => {
        app(req, res);
        arrived++;
      };
    };
    const { ask, pass, storedAll, asked, kit } = await page(
      async (req, res) => {
        if (asked.length > 1)
          await new Promise<void>((resolve) => {
            open = resolve;
          });
        return tagged({ 'Cache-Control': 'max-age=10', 'X-Run': String(asked.length) })(req, res);
      },
      { make },
    );
    const collapsed = eventsOf(kit, 'cache:collapsed');
    await ask();
    await storedAll(1);
    await pass(11_000);
    const all = [ask()];
    await until('the handler runs', () => open !== undefined);
    all.push(ask(), ask({ 'If-None-Match': '"1"' }));
    await until('all requests have arrived', () => arrived === 4);
    open?.();
    const answers = await Promise.all(all);
    expect(answers.map(({ status, text }) => [status, text])).toEqual([
      [200, 'body'],
      [200, 'body'],
      [304, ''],
    ]);
    for (const { headers } of answers) expect(headers['x-run']).toBe('2');
    expect(collapsed).toHaveLength(2);
  });

  it('RFC 9111, section 5.2.2.4: a no-cache response answers only its own request', async () => {
    let run = 0;
    const { ask, storedAll } = await page((req, res) => {
      const etag = `"${++run}"`;
      return tagged(
        { 'Cache-Control': 'no-cache' },
        () => etag,
        () => `body ${etag}`,
      )(req, res);
    });
    const texts = (await Promise.all([ask(), ask(), ask(), ask()])).map(({ text }) => text);
    expect(new Set(texts).size).toBe(4);
    await storedAll(1);
    const later = (await Promise.all([ask(), ask(), ask()])).map(({ text }) => text);
    expect(new Set([...texts, ...later]).size).toBe(7);
  });

  describe('validation and invalidation', () => {
    it('RFC 9111, section 4.4: a purged response is never validated', async () => {
      const { ask, pass, storedAll, asked, kit } = await page(tagged({ 'Cache-Control': 'max-age=10' }));
      await ask();
      await storedAll(1);
      await pass(11_000);
      await kit.invalidate({ url: '/a' });
      await ask();
      expect(asked[1]?.[0]).toBeUndefined();
    });

    it.each(['max-age=60', 'max-age=60, must-revalidate'])(
      'RFC 9111, section 4.4: a response with %s is validated after a soft purge, and is fresh again',
      async (control) => {
        const { ask, storedAll, asked, kit } = await page(tagged({ 'Cache-Control': control }), {
          make: FORMS.at(-1)?.[1] ?? FORM,
        });
        await ask();
        await storedAll(1);
        await kit.invalidate({ url: '/a', soft: true });
        expect(await ask()).toMatchObject({ status: 200, text: 'body' });
        await storedAll(2);
        expect(lastStatus(await ask())).toMatch(/^redis-kit; hit/);
        expect(asked.map(([etag]) => etag)).toEqual([undefined, '"1"']);
      },
    );

    it('RFC 9111, section 4.4: a purge while the handler validates a response invalidates the freshened response', async () => {
      const { ask, pass, storedAll, asked, kit } = await page(async (req, res) => {
        if (asked.length === 2) await kit.invalidate({ url: '/a' });
        return tagged({ 'Cache-Control': 'max-age=10' })(req, res);
      });
      await ask();
      await storedAll(1);
      await pass(11_000);
      await ask();
      await ask();
      expect(asked.map(([etag]) => etag)).toEqual([undefined, '"1"', undefined]);
    });

    it('RFC 9111, section 4.4: a freshened response keeps its tags when the handler sets none with its 304', async () => {
      const { ask, pass, storedAll, asked, kit } = await page((req, res) => {
        const { cache } = req as IncomingMessage & { cache: { tag(...tags: string[]): void } };
        if (req.headers['if-none-match'] === undefined) cache.tag('news');
        return tagged({ 'Cache-Control': 'max-age=10' })(req, res);
      });
      await ask();
      await storedAll(1);
      await pass(11_000);
      await ask();
      await storedAll(2);
      await kit.invalidate({ tags: 'news' });
      await ask();
      expect(asked.map(([etag]) => etag)).toEqual([undefined, '"1"', undefined]);
    });
  });

  it.each(['no-cache', 'max-age=0'])(
    'RFC 9111, section 5.2.1: with honored request directives, the stored response is validated for a request with %s',
    async (control) => {
      const { ask, storedAll, asked } = await page(tagged({ 'Cache-Control': 'max-age=60' }), {
        requestDirectives: 'honor',
      });
      await ask();
      await storedAll(1);
      // Within one second, max-age=0 accepts a response of age 0.
      const validated = await ask({ 'Cache-Control': control === 'max-age=0' ? 'min-fresh=61' : control });
      expect([validated.status, validated.text]).toEqual([200, 'body']);
      expect(lastStatus(validated)).toBe('redis-kit; fwd=request; fwd-status=304; stored');
      expect(asked[1]?.[0]).toBe('"1"');
    },
  );

  describe('validation and the selection of responses', () => {
    it('RFC 9111, section 4.1: a stale variant is not validated by a request that selects another variant', async () => {
      const { ask, pass, storedAll, asked } = await page(
        tagged({ 'Cache-Control': 'max-age=10', Vary: 'Accept-Language' }),
      );
      await ask({ 'Accept-Language': 'de' });
      await storedAll(1);
      await pass(11_000);
      await ask({ 'Accept-Language': 'fr' });
      await ask({ 'Accept-Language': 'de' });
      expect(asked.map(([etag]) => etag)).toEqual([undefined, undefined, '"1"']);
    });

    it('RFC 9111, section 3.5: a request with Authorization does not validate a response that must not answer such requests', async () => {
      const { ask, pass, storedAll, asked } = await page(tagged({ 'Cache-Control': 'max-age=10' }));
      await ask();
      await storedAll(1);
      await pass(11_000);
      await ask();
      await storedAll(2);
      await pass(11_000);
      await ask({ Authorization: 'Bearer 1' });
      expect(asked.map(([etag]) => etag)).toEqual([undefined, '"1"', undefined]);
    });

    it('RFC 9111, section 3.5: a 304 with `public` does not permit a stored response to answer requests with Authorization', async () => {
      let run = 0;
      const { ask, pass, storedAll, asked } = await page((req, res) =>
        tagged({ 'Cache-Control': ++run === 1 ? 'max-age=10' : 'public, max-age=60' })(req, res),
      );
      await ask();
      await storedAll(1);
      await pass(11_000);
      await ask();
      await storedAll(2);
      await ask({ Authorization: 'Bearer 1' });
      expect(asked).toHaveLength(3);
    });

    it.each<[string, string, (req: IncomingMessage) => unknown]>([
      ['the session', 'session-read', (req) => (req as { session?: unknown }).session],
      ['the cookies', 'cookie-read', (req) => req.headers.cookie],
    ])('a validated response is not stored again when the handler read %s', async (_, reason, read) => {
      const { ask, pass, storedAll, asked, stored, skipped } = await page((req, res) => {
        if (asked.length > 1) read(req);
        return tagged({ 'Cache-Control': 'max-age=10' })(req, res);
      });
      await ask();
      await storedAll(1);
      await pass(11_000);
      expect(await ask()).toMatchObject({ status: 200, text: 'body' });
      await until('the response is skipped', () => skipped.length === 1);
      expect(skipped[0]).toMatchObject({ reason });
      expect(stored).toHaveLength(1);
      await ask();
      expect(asked).toHaveLength(3);
    });

    it('a cookie on a 304 reaches the client, and the validated response is not stored again', async () => {
      const { ask, pass, storedAll, asked, stored, skipped } = await page((req, res) => {
        if (asked.length === 2) res.setHeader('Set-Cookie', 'a=1');
        return tagged({ 'Cache-Control': 'max-age=10' })(req, res);
      });
      await ask();
      await storedAll(1);
      await pass(11_000);
      const validated = await ask();
      expect([validated.status, validated.text, validated.headers['set-cookie']]).toEqual([
        200,
        'body',
        ['a=1'],
      ]);
      await until('the response is skipped', () => skipped.length === 1);
      expect(stored).toHaveLength(1);
      expect((await ask()).headers['set-cookie']).toBeUndefined();
      expect(asked[2]?.[0], 'the next run is asked for the whole').toBeUndefined();
    });
  });

  it('RFC 9111, section 5.2.2.4: a no-cache response is validated even when the clock has gone back', async () => {
    const { ask, storedAll, asked } = await page(tagged({ 'Cache-Control': 'no-cache' }));
    await ask();
    await storedAll(1);
    vi.setSystemTime(Date.now() - 10_000);
    await ask();
    expect(asked.map(([etag]) => etag)).toEqual([undefined, '"1"']);
  });

  it('RFC 9111, section 5.2.2.4: concurrent requests for a no-cache response do not wait for each other', async () => {
    let running = 0;
    const { ask, storedAll, asked } = await page(async (req, res) => {
      running++;
      if (asked.length > 1) await until('three requests run at once', () => running === 4);
      return tagged({ 'Cache-Control': 'no-cache' })(req, res);
    });
    await ask();
    await storedAll(1);
    const answers = await Promise.all([ask(), ask(), ask()]);
    expect(answers.map(({ text }) => text)).toEqual(['body', 'body', 'body']);
    expect(asked.map(([etag]) => etag)).toEqual([undefined, '"1"', '"1"', '"1"']);
  });

  it('RFC 9111, section 4.3.4: a 304 with another ETag updates nothing, and the next request to the handler is unconditional', async () => {
    const { ask, pass, storedAll, asked, stored, skipped } = await page((req, res) => {
      res.setHeader('Cache-Control', 'max-age=10').setHeader('X-Run', asked.length);
      if (req.headers['if-none-match'] !== undefined) res.setHeader('ETag', '"2"').writeHead(304).end();
      else res.setHeader('ETag', '"1"').end('body');
    });
    await ask();
    await storedAll(1);
    await pass(11_000);
    const answer = await ask();
    expect([answer.status, answer.text, answer.headers.etag]).toEqual([200, 'body', '"1"']);
    await until('the response is skipped', () => skipped.length === 1);
    expect(skipped[0]).toMatchObject({ reason: 'validator' });
    expect(stored).toHaveLength(1);
    await ask();
    expect(asked[2]?.[0]).toBeUndefined();
  });

  it('RFC 9111, section 4.3.4: a handler that sent a 304 with another ETag is asked to validate its next response', async () => {
    const { ask, pass, storedAll, asked, skipped } = await page((req, res) => {
      res.setHeader('Cache-Control', 'max-age=10');
      if (req.headers['if-none-match'] !== undefined) res.setHeader('ETag', '"2"').writeHead(304).end();
      else res.setHeader('ETag', '"1"').end('body');
    });
    await ask();
    await storedAll(1);
    await pass(11_000);
    await ask();
    await until('the 304 is skipped', () => skipped.length === 1);
    await ask();
    await storedAll(2);
    await pass(11_000);
    await ask();
    expect(asked.map(([etag]) => etag)).toEqual([undefined, '"1"', undefined, '"1"']);
  });

  it('RFC 9111, section 4.3.4: a 304 that Express makes of a 200 validates the stored response', async () => {
    const etag = createHash('sha1').update('by Express').digest('base64').slice(0, 27);
    const { ask, pass, storedAll, asked } = await page((_req, res) => {
      const express = res as ServerResponse & {
        set(name: string, value: string): void;
        send(body: string): void;
      };
      express.set('Cache-Control', 'max-age=10');
      express.send('by Express');
    });
    await ask();
    await storedAll(1);
    await pass(11_000);
    const validated = await ask();
    expect([validated.status, validated.text]).toEqual([200, 'by Express']);
    expect(asked[1]?.[0]).toContain(etag);
    expect(lastStatus(validated)).toContain('fwd-status=304');
  });

  it('a request that validates a response emits cache:miss and cache:stored', async () => {
    const { ask, pass, storedAll, kit, stored } = await page(tagged({ 'Cache-Control': 'max-age=10' }));
    await ask();
    await storedAll(1);
    await pass(11_000);
    const others = (['cache:hit', 'cache:stale', 'cache:skipped'] as const).map((name) =>
      eventsOf(kit, name),
    );
    const misses = eventsOf(kit, 'cache:miss');
    await ask();
    await storedAll(2);
    expect(misses).toEqual([{ url: '/a' }]);
    expect(stored).toHaveLength(2);
    expect(others).toEqual([[], [], []]);
  });
});

it('RFC 9111, section 4.4: a purge that a process missed invalidates a response that this process has validated', async () => {
  const prefix = testPrefix();
  await loadCacheScripts(redisUrl());
  const start = async () => {
    const { kit, pass } = agingKit(redisUrl(), { prefix });
    const stored = eventsOf(kit, 'cache:stored');
    const asked: (string | undefined)[] = [];
    const options: Options = { local: false, key: { host: false } };
    const app = FORM(kit, options, (req, res) => {
      if (req.url === '/a' && req.method === 'GET') asked.push(req.headers['if-none-match']);
      return tagged({ 'Cache-Control': 'max-age=10' })(req, res);
    });
    const address = await serve(app);
    await kit.ready();
    await withPlainClient(redisUrl(), (client) =>
      until('the process listens', async () => (await client.pubSubChannels(`${prefix}:*`)).length > 0),
    );
    const ask = (path: string, method = 'GET') => send(address + path, { method });
    return { ask, asked, pass, stored };
  };
  const process = await start();
  await process.ask('/a');
  await until('the response is stored', () => process.stored.length === 1);
  await process.pass(11_000);
  // It reads the versions of the response, and uses them for five seconds.
  await process.ask('/a', 'HEAD');
  await withPlainClient(redisUrl(), async (client) => {
    const keys = await client.keys(`${prefix}:cache:{*`);
    const [sequence = ''] = keys.filter((key) => key.endsWith('}:sequence'));
    const [version = ''] = keys.filter((key) => key.endsWith('/a') && key.includes('}:url'));
    const last = Number((await client.get(sequence))?.slice(2));
    await client.set(version, `1:${last + 1}:0`, { PX: 60_000 });
    await client.set(sequence, `1:${last + 1}`, { PX: 60_000 });
  });
  // Now the process knows the sequence of the purge, but not its names.
  await process.ask('/b');
  await process.ask('/a');
  expect(process.asked, 'the stored response was validated').toEqual([undefined, '"1"']);
  await until('three responses are stored', () => process.stored.length === 3);
  const other = await start();
  await other.ask('/a');
  expect(other.asked, 'the purged response is neither used nor validated').toEqual([undefined]);
});
