import express, { type RequestHandler } from 'express';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { type Answer, ask as askRaw, type RequestText } from '../../http/exchange.ts';
import { redisUrl } from '../../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { until } from '../../support/until.ts';
import { serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

/** Responds with host and URL as the app saw them, and with the number of the run. */
const SEEN: RequestHandler = (req, res) => {
  res.send(`${req.headers.host} ${req.originalUrl} ${++runs}`);
};
let runs = 0;

async function page(url: string, options: CacheOptions = {}, handler = SEEN) {
  const kit = kitForTest({ url });
  const stored = eventsOf(kit, 'cache:stored');
  const app = express()
    .set('env', 'test')
    .use(kit.cache({ ttl: '1m', ...options }), handler);
  const port = Number(new URL(await serve(app)).port);
  const ask = (path = '/', headers: RequestText['headers'] = {}) => askRaw(port, { path, headers });
  return { kit, port, ask, stored };
}

const isHit = (answer: Answer) => answer.header('age') !== undefined;

describeOnBothEngines('the cache key of a page', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  it('a page is found by its exact URL, of which nothing is decoded, joined or reordered', async () => {
    const { ask } = await page(url());
    const paths = [
      ...[
        '/a/b',
        '/a%2fb',
        '/a%2Fb',
        '/a//b',
        '//a/b',
        '/a/./b',
        '/a/../a/b',
        '/A/b',
        '/a/b/',
        '/a/b?',
        '/a/b#',
      ],
      ...[
        '/a/b?x=1&y=2',
        '/a/b?y=2&x=1',
        '/a/b?x=1&y=2&',
        '/a/b?x=%31&y=2',
        '//evil',
        '//evil/a/b',
        '/%65vil',
      ],
      ...['/{a}', '/%7Ba%7D', '/*', '/[a]', '/a:b', '/a%20b', '/a+b', '/\\a'],
    ];
    for (const path of paths) {
      const first = await ask(path);
      expect([isHit(first), first.body.split(' ')[1]], path).toEqual([false, path]);
    }
    for (const path of paths) {
      const second = await ask(path);
      expect([isHit(second), second.body.split(' ')[1]], path).toEqual([true, path]);
    }
  });

  it('a request with an absolute URL gets no page of the host in that URL', async () => {
    const { ask } = await page(url());
    const host = { Host: 'shop.example' };
    for (const path of ['http://evil.example/a', 'http://shop.example/a', '/a']) {
      const answer = await ask(path, host);
      expect([isHit(answer), answer.body.split(' ')[1]], path).toEqual([false, path]);
    }
    expect((await ask('/a', host)).body).toContain('shop.example /a ');
  });

  it.each([
    'evil.example/a',
    'shop.example evil',
    'a"b',
    'a,b',
    'shop.example?x',
    'shop.example#',
    'a@b',
    'ü',
  ])('a request with the invalid host %j bypasses the cache', async (host) => {
    const { ask, stored } = await page(url());
    const answers = [await ask('/a', { Host: host }), await ask('/a', { Host: host })];
    for (const answer of answers) expect([isHit(answer), answer.status]).toEqual([false, 200]);
    expect(answers[0]?.body).not.toBe(answers[1]?.body);
    expect(stored).toEqual([]);
  });

  it('a request without a host gets no page of any host', async () => {
    const { ask } = await page(url());
    const first = await ask('/a', { Host: '' });
    expect((await ask('/a', { Host: 'shop.example' })).body).not.toBe(first.body);
    expect((await ask('/a', { Host: '' })).body).toBe(first.body);
  });

  it('all hosts share a page with `host: false`', async () => {
    const { ask } = await page(url(), { key: { host: false } });
    const { body } = await ask('/a', { Host: 'one.example' });
    for (const host of ['two.example', '', 'no host/at all'])
      expect((await ask('/a', { Host: host })).body).toBe(body);
    expect(isHit(await ask('//a'))).toBe(false);
  });

  it('by default, no header or cookie changes the key, and none bypasses the cache', async () => {
    const { ask } = await page(url());
    const { body } = await ask('/a');
    for (const [name, value] of [
      ...['no-cache', 'no-store', 'max-age=0', 'only-if-cached', 'private'].map((control) => [
        'Cache-Control',
        control,
      ]),
      ...['Host', 'Proto', 'For', 'Port', 'Prefix'].map((what) => [`X-Forwarded-${what}`, 'evil.example']),
      ...['X-Host', 'X-Original-URL', 'X-Rewrite-URL', 'X-HTTP-Method-Override'].map((name) => [
        name,
        '/evil',
      ]),
      ...[
        ['Pragma', 'no-cache'],
        ['Cookie', 'a=b; connect.sid=c'],
        ['Forwarded', 'host=evil.example'],
      ],
      ...[
        ['Accept', 'text/evil'],
        ['Accept-Language', 'xx'],
        ['User-Agent', 'evil'],
        ['Origin', 'http://evil'],
      ],
    ]) {
      const answer = await ask('/a', { [String(name)]: String(value) });
      expect([isHit(answer), answer.body], `${name}: ${value}`).toEqual([true, body]);
    }
  });

  it('an X-Forwarded-Host of an untrusted client does not poison the page', async () => {
    const { ask } = await page(url(), {}, (req, res) => void res.send(`${req.hostname} ${req.protocol}`));
    const forwarded = { 'X-Forwarded-Host': 'evil.example', 'X-Forwarded-Proto': 'evil' };
    expect((await ask('/a', { Host: 'shop.example', ...forwarded })).body).toBe('shop.example http');
    expect((await ask('/a', { Host: 'shop.example' })).body).toBe('shop.example http');
  });

  it.each([true, 'loopback', '192.0.2.1'] as const)(
    'with `trust proxy: %j`, pages differ by the forwarded host and scheme only if the proxy is trusted',
    async (proxy) => {
      const kit = kitForTest({ url: url() });
      const app = express()
        .set('trust proxy', proxy)
        .use(kit.cache({ ttl: '1m' }));
      app.use((req, res) => void res.send(`${req.protocol}://${req.hostname} ${++runs}`));
      const port = Number(new URL(await serve(app)).port);
      const answerTo = async (host?: string, proto?: string) => {
        const forwarded = {
          ...(host && { 'X-Forwarded-Host': host }),
          ...(proto && { 'X-Forwarded-Proto': proto }),
        };
        return (await askRaw(port, { headers: { Host: 'inner', ...forwarded } })).body.split(' ');
      };
      const isTrusted = proxy !== '192.0.2.1';
      for (const host of ['one.example', 'two.example', undefined]) {
        for (const proto of ['http', 'https', undefined]) {
          const [origin, run] = await answerTo(host, proto);
          expect(origin).toBe(isTrusted ? `${proto ?? 'http'}://${host ?? 'inner'}` : 'http://inner');
          expect(await answerTo(host, proto)).toEqual([origin, run]);
        }
      }
      const pages = [
        await answerTo('one.example', 'https'),
        await answerTo('two.example', 'https'),
        await answerTo(),
      ];
      expect(new Set(pages.map(([, run]) => run)).size).toBe(isTrusted ? 3 : 1);
      expect(await answerTo('one.example, another', 'https, http')).toEqual(pages[0]);
    },
  );

  it.each<[string, NonNullable<CacheOptions['key']>, RequestText['headers'][], RequestText['headers'][]]>([
    [
      'headers',
      { headers: ['X-Plan', 'X-Region'] },
      [{}, { 'x-plan': 'a' }, { 'x-region': 'a' }, { 'x-plan': 'a', 'x-region': 'a' }, { 'x-plan': 'a,b' }],
      [{ 'x-other': '1' }, { cookie: 'x-plan=a' }],
    ],
    [
      'cookies',
      { cookies: ['plan', 'region'] },
      [{}, { cookie: 'plan=a' }, { cookie: 'region=a' }, { cookie: 'plan=a; region=a' }, { cookie: 'plan=' }],
      [{ cookie: 'other=1' }, { cookie: 'xplan=a' }, { cookie: 'plan' }, { plan: 'a' }],
    ],
    [
      'headers and cookies',
      { headers: ['x-plan'], cookies: ['x-plan'] },
      [{}, { 'x-plan': 'a' }, { cookie: 'x-plan=a' }, { 'x-plan': 'a', cookie: 'x-plan=a' }],
      [{ cookie: 'y=1' }],
    ],
  ])(
    'pages differ by the values of the %s that the key names, and by no others',
    async (_, key, others, same) => {
      const { ask } = await page(url(), { key });
      const bodies = new Set<string>();
      for (const headers of others) bodies.add((await ask('/a', headers)).body);
      expect(bodies.size).toBe(others.length);
      for (const headers of others) expect(bodies).toContain((await ask('/a', headers)).body);
      const { body } = await ask('/a');
      for (const headers of same) expect((await ask('/a', headers)).body, JSON.stringify(headers)).toBe(body);
    },
  );

  it.each<[string, NonNullable<CacheOptions['key']>, string[], string[]]>([
    ['no parameter', { query: false }, [], ['?', '?a=1', '?b=2&a=1', '?a[b]=1']],
    [
      'only the named parameters',
      { query: ['page', 'sort'] },
      [
        '?page=1',
        '?page=2',
        '?sort=1',
        '?page=1&sort=1',
        '?page=1&page=2',
        '?page',
        '?page[a]=1',
        '?%70age=9',
      ],
      ['?utm=1', '?Page=1', '?apage=1'],
    ],
    [
      'all but the named parameters',
      { query: { ignore: ['utm'] } },
      ['?page=1', '?page=2', '?utms=1', '?page=1&x=%zz'],
      ['?utm=1', '?utm', '?utm=1&utm=2', '?%75tm=3'],
    ],
  ])('the key contains %s of the query', async (_, key, others, same) => {
    const { ask } = await page(url(), { key });
    const { body } = await ask('/a');
    const bodies = new Set([body]);
    for (const query of others) bodies.add((await ask(`/a${query}`)).body);
    expect(bodies.size).toBe(others.length + 1);
    for (const query of same) expect((await ask(`/a${query}`)).body, query).toBe(body);
  });

  it('a page is found by the result of the `key` function, and a request for which it returns false bypasses the cache', async () => {
    const { ask, stored } = await page(url(), { key: (req) => req.get('x-key') ?? false });
    const { body } = await ask('/a', { 'x-key': 'one' });
    expect((await ask('/b', { 'x-key': 'one', Host: 'other.example' })).body).toBe(body);
    expect((await ask('/a', { 'x-key': 'two' })).body).not.toBe(body);
    const bodies = new Set([(await ask('/a')).body, (await ask('/a')).body, body]);
    expect(bodies.size).toBe(3);
    await until('two are stored', () => stored.length === 2);
  });

  it.each(['', undefined, 7, null, {}])('a `key` function that returns %j is refused', async (key) => {
    const { ask } = await page(url(), { key: () => key as string });
    expect((await ask('/a')).status).toBe(500);
  });
});

describe('the Redis key of a stored page', () => {
  it('a Redis key is short for any URL, and shows no header or cookie value', async () => {
    const { kit, ask, stored } = await page(redisUrl(), {
      key: { headers: ['x-token'], cookies: ['token'] },
    });
    const long = `/${'a'.repeat(8_000)}`;
    const bodies = [long, `${long}b`, `${long}?c`].map(async (path) => (await ask(path)).body);
    expect(new Set(await Promise.all(bodies)).size).toBe(3);
    await ask('/a', { 'x-token': 'hush-hush', Cookie: 'token=hush-hush' });
    await until('all is stored', () => stored.length === 4);
    const keys = await withPlainClient(redisUrl(), (client) => client.keys(`${kit.prefix}:*`));
    for (const key of keys) expect(key.length, key).toBeLessThan(150);
    expect(keys.join(' ')).not.toContain('hush');
  });
});
