import compression from 'compression';
import type { RequestHandler } from 'express';
import { parseList } from 'structured-headers';
import { beforeAll, expect, it } from 'vitest';
import { describeBySeconds } from '../../support/kits.ts';
import { compression17 } from '../../support/older-releases.ts';
import type { Answer } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';
import { type SiteOptions, says, site } from './site.ts';

/** A page that is stored, and has a Content-Length, so that Cache-Status can say so. */
function page(headers: Readonly<Record<string, string>>): RequestHandler {
  return (_req, res) => void res.set(headers).send('page');
}

/** The members of Cache-Status: names with their parameters. */
function members({ headers }: Answer): [name: string, parameters: Record<string, unknown>][] {
  return parseList(String(headers['cache-status'])).map(([name, parameters]) => [
    String(name),
    Object.fromEntries([...parameters].map(([key, value]) => [key, String(value)])),
  ]);
}

describeBySeconds('RFC 9211: Cache-Status', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function start(
    handler: RequestHandler = page({ 'Cache-Control': 'max-age=30' }),
    options: SiteOptions = {},
  ) {
    const made = await site(url(), options, handler);
    const ask = async (...args: Parameters<typeof made.ask>) => {
      const all = members(await made.ask(...args));
      expect(all).toHaveLength(1);
      return all[0]?.[1];
    };
    return { ...made, ask, answer: made.ask };
  }

  it('RFC 9211, section 2: Cache-Status is a list of structured fields, to which each cache appends itself', async () => {
    const { answer } = await start(
      says({ 'Cache-Control': 'max-age=30', 'Cache-Status': 'origin-cache; hit' }),
      {
        above: [
          (_req, res, next) => {
            res.setHeader('Cache-Status', 'outer; detail=x');
            next();
          },
        ],
      },
    );
    const names = async () => members(await answer()).map(([member]) => member);
    const miss = await names();
    expect(miss.at(-1)).toBe('redis-kit');
    expect((await names()).at(-1)).toBe('redis-kit');
  });

  it('RFC 9211, section 2: a name in the option `cacheStatus` is sent as a token', async () => {
    for (const name of ['shop', 'shop.example:1']) {
      const { answer } = await start(undefined, { cacheStatus: name });
      expect(members(await answer()).map(([member]) => member)).toEqual([name]);
    }
  });

  it('RFC 9211, section 2.1: a hit has the parameter hit and no fwd', async () => {
    const { ask } = await start();
    await ask();
    expect(await ask()).toEqual({ hit: 'true', ttl: expect.stringMatching(/^(29|30)$/) });
  });

  it('RFC 9211, section 2.2: the parameter fwd is uri-miss, vary-miss or request', async () => {
    const { ask, storedAll } = await start(
      page({ 'Cache-Control': 'max-age=30, must-revalidate', Vary: 'Accept-Language' }),
      { requestDirectives: 'honor' },
    );
    expect(await ask('/a', { 'Accept-Language': 'de' })).toEqual({ fwd: 'uri-miss', stored: 'true' });
    await storedAll(1);
    expect(await ask('/a', { 'Accept-Language': 'fr' })).toEqual({ fwd: 'vary-miss', stored: 'true' });
    expect(await ask('/a', { 'Accept-Language': 'de', 'Cache-Control': 'no-cache' })).toMatchObject({
      fwd: 'request',
    });
    expect(await ask('/b', { 'Cache-Control': 'no-store' })).toEqual({ fwd: 'request' });
  });

  it('RFC 9211, section 2.3: the parameter fwd-status is the status of the error in whose place a stale response is sent', async () => {
    let fails = false;
    const { ask, pass, storedAll } = await start((req, res, next) => {
      if (fails) res.status(503).end();
      else says({ 'Cache-Control': 'max-age=30, stale-if-error=60' })(req, res, next);
    });
    await ask();
    await storedAll(1);
    fails = true;
    await pass(40_000);
    expect(await ask()).toMatchObject({
      fwd: 'stale',
      'fwd-status': '503',
      ttl: expect.stringMatching(/^-1[012]$/),
    });
  });

  it('RFC 9211, section 2.4: the parameter ttl is the remaining lifetime, which is negative for a stale response', async () => {
    const { ask, pass, storedAll } = await start(
      says({ 'Cache-Control': 'max-age=30, stale-while-revalidate=60' }),
    );
    await ask();
    await storedAll(1);
    await pass(10_000);
    expect((await ask())?.ttl).toMatch(/^(19|20)$/);
    await pass(25_000);
    expect(await ask()).toMatchObject({ hit: 'true', ttl: expect.stringMatching(/^-[4567]$/) });
  });

  it('RFC 9211, section 2.5: the parameter stored is present only if the response is stored', async () => {
    expect(await (await start()).ask()).toEqual({ fwd: 'uri-miss', stored: 'true' });
    const { ask } = await start(says({ 'Cache-Control': 'no-store' }));
    expect(await ask()).toEqual({ fwd: 'uri-miss' });
  });

  it('RFC 9211, section 2.6: the parameter collapsed is present only for followers', async () => {
    let open: () => void = () => undefined;
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    const { ask, runs } = await start(async (req, res, next) => {
      await opened;
      says({ 'Cache-Control': 'max-age=30' })(req, res, next);
    });
    const all = [ask(), ask(), ask()];
    setTimeout(open, 200);
    const statuses = await Promise.all(all);
    expect(runs()).toBe(1);
    expect(statuses.filter((each) => each?.collapsed === 'true')).toHaveLength(2);
    for (const each of statuses) expect(each?.fwd).toBe('uri-miss');
  });

  it('RFC 9211, sections 2.7 and 6: the key is shown only with `debug`, since it may be a secret', async () => {
    const secret = await start();
    expect(Object.keys((await secret.ask('/a?token=1')) ?? {})).not.toContain('key');
    const { ask } = await start(undefined, { debug: true });
    expect((await ask('/%C3%A4?x="1'))?.key).toMatch(/^127\.0\.0\.1:\d+\/%C3%A4\?x=(%22|")1$/);
  });

  it.each<[string, RequestHandler]>([
    ['writeHead()', (_req, res) => void res.writeHead(200, { 'Cache-Control': 'max-age=30' }).end('page')],
    [
      'flushHeaders()',
      (_req, res) => {
        res.set('Cache-Control', 'max-age=30').flushHeaders();
        setImmediate(() => res.end('page'));
      },
    ],
  ])('RFC 9211, section 2: a miss whose handler called %s has Cache-Status', async (_way, handler) => {
    const { ask } = await start(handler);
    expect(await ask()).toEqual({ fwd: 'uri-miss' });
    expect(await ask()).toMatchObject({ hit: 'true' });
  });

  it('RFC 9211, section 2.5: a miss has the parameter stored when its handler passes Content-Length to writeHead()', async () => {
    const head = { 'Cache-Control': 'max-age=30', 'Content-Length': 4 };
    const { ask } = await start((_req, res) => void res.writeHead(200, head).end('page'));
    expect(await ask()).toEqual({ fwd: 'uri-miss', stored: 'true' });
  });

  it.each([
    ['1.8', compression],
    ['1.7.4', compression17],
  ] as const)(
    'RFC 9211, section 2: a miss that compression %s encodes after the cache has Cache-Status',
    async (_version, make) => {
      const below = [make({ threshold: 0 }) as RequestHandler];
      const { ask } = await start(page({ 'Cache-Control': 'max-age=30' }), { below });
      const headers = { 'Accept-Encoding': 'gzip' };
      expect(await ask('/a', headers)).toEqual({ fwd: 'uri-miss' });
      expect(await ask('/a', headers)).toMatchObject({ hit: 'true' });
    },
  );

  it.each<[string, Readonly<Record<string, string>>, number]>([
    ['no-store', { 'Cache-Control': 'no-store' }, 200],
    ['private', { 'Cache-Control': 'private' }, 200],
    ['set-cookie', { 'Cache-Control': 'max-age=30', 'Set-Cookie': 'a=1' }, 200],
    ['no-lifetime', {}, 200],
    ['vary', { 'Cache-Control': 'max-age=30', Vary: '*' }, 200],
    ['status', { 'Cache-Control': 'max-age=30' }, 600],
  ])(
    'RFC 9211, section 2.8: with `debug` only, a miss that is not stored has detail=%s',
    async (detail, headers, status) => {
      const handler: RequestHandler = (_req, res) => void res.status(status).set(headers).send('page');
      const { ask } = await start(handler, { debug: true });
      expect(await ask()).toMatchObject({ fwd: 'uri-miss', detail });
      const quiet = await start(handler);
      expect(await quiet.ask()).toEqual({ fwd: 'uri-miss' });
    },
  );

  it('RFC 9211, section 2.8: a reason of noStore() that is no token is sent as a string', async () => {
    const { answer } = await start(
      (req, res) => {
        req.cache.noStore('"beta" user,\r\nfür A/B');
        res.send('page');
      },
      { debug: true },
    );
    expect((await answer()).headers['cache-status']).toContain('detail="\\"beta\\" user,??f?r A/B"');
  });

  it('RFC 9211, section 2: Cache-Status is omitted with `cacheStatus: false`', async () => {
    const { answer } = await start(undefined, { cacheStatus: false });
    for (const each of [await answer(), await answer()]) expect(each.headers['cache-status']).toBeUndefined();
  });
});
