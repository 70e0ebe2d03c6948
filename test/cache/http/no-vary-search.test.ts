import type { ServerResponse } from 'node:http';
import qs from 'node:querystring';
import express from 'express';
import onHeaders from 'on-headers';
import { beforeAll, describe, expect, it } from 'vitest';
import { searchRule, urlUnder } from '../../../src/cache/http/counted-url.ts';
import { type CacheOptions, isRevalidation, type Middleware, type RedisKit } from '../../../src/index.ts';
import { ask as askRaw, Gate } from '../../http/exchange.ts';
import { EXPRESS } from '../../http/frameworks.ts';
import { redisUrl } from '../../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest, testPrefix } from '../../support/kits.ts';
import { onEveryStore } from '../../support/stores.ts';
import { until } from '../../support/until.ts';
import { type Answer, type Sent, send, serve } from '../../support/web.ts';
import { agingKit } from '../aging.ts';
import { loadCacheScripts } from '../scripts.ts';
import { type MakeServer, makeNodeServer, SERVERS } from '../servers.ts';

/** The examples of the draft. */
const UTM = 'params=("utm_source" "utm_medium" "utm_campaign")';

interface Run {
  readonly url: string;
  readonly method: string;
  readonly res: ServerResponse;
  readonly headers: Readonly<Record<string, unknown>>;
}

interface PageOptions extends CacheOptions {
  readonly makeServer?: MakeServer;
}

/** The field that each run of the handler sends: a text, or the effect of a function. */
type Saying = string | ((run: Run) => void | Promise<void>);

/** A page whose body is the URL that its handler saw, and a function that requests it. */
async function page(
  kit: RedisKit,
  says: Saying,
  { makeServer = makeNodeServer, ...options }: PageOptions = {},
) {
  const runs: string[] = [];
  const kept = [...[eventsOf(kit, 'cache:stored'), eventsOf(kit, 'cache:skipped')]];
  let expected = 0;
  const settled = () => kept.reduce((sum, events) => sum + events.length, 0) >= expected;
  const app = makeServer([kit.cache({ ttl: '1m', ...options })], async (req, res) => {
    const { url = '', method = '', headers } = req;
    runs.push(url);
    if (typeof says === 'string') res.setHeader('No-Vary-Search', says);
    else await says({ url, method, res, headers });
    if (!res.writableEnded) res.end(`for ${url}`);
  });
  const address = await serve(app);
  const request = (path: string, sent: Sent = {}) =>
    send(address + path, { ...sent, headers: { Host: 'shop.example', ...sent.headers } });

  /** Resolves when the response is stored or skipped. */
  async function ask(path: string, sent: Sent = {}): Promise<string> {
    const before = runs.length;
    const answer = await request(path, sent);
    if (runs.length > before && (sent.method ?? 'GET') === 'GET') expected++;
    await until('the response is stored or skipped', settled);
    return answer.text;
  }

  return { address, ask, request, runs };
}

const isHit = ({ headers }: Answer) => headers.age !== undefined;

describe('the rule that a No-Vary-Search field declares', () => {
  const ruleOf = (field: string | string[]) => {
    const rule = searchRule({ 'no-vary-search': field });
    if (rule === undefined) return undefined;
    const { isOrdered, params } = rule;
    return [isOrdered, 'only' in params ? { only: [...params.only] } : { ignore: [...params.ignore] }];
  };

  it.each<[string | string[], unknown]>([
    ['key-order', [false, { ignore: [] }]],
    ['params=("a")', [true, { ignore: ['a'] }]],
    ['except=("x")', [true, { only: ['x'] }]],
    ['except=()', [true, { only: [] }]],
    ['params', [true, { only: [] }]],
    ['params=?1, except=("x")', [true, { only: ['x'] }]],
    ['key-order, params, except=("x" "y")', [false, { only: ['x', 'y'] }]],
    ['key-order=?1', [false, { ignore: [] }]],
    ['except=("x"), key-order', [false, { only: ['x'] }]],
    [
      ['key-order', 'params=("b" "a" "b")'],
      [false, { ignore: ['a', 'b'] }],
    ],
    ['params=("a";x=1);y, key-order;z', [false, { ignore: ['a'] }]],
    ['params=("a"), later=1, date=@1659578233, other=("x")', [true, { ignore: ['a'] }]],
    ['params=("%C3%A9+%E6%B0%97")', [true, { ignore: ['é 気'] }]],
    ['params=("%FF" "%zz" "%")', [true, { ignore: ['%', '%zz', '\ufffd'] }]],
  ])('No-Vary-Search, sections 5.1 to 5.3: the field %j is valid', (field, rule) => {
    expect(ruleOf(field)).toEqual(rule);
  });

  it.each([
    ...['key-order="not a boolean"', 'params="not an inner list"', 'params=(not-a-string)', 'params=?0'],
    ...[
      'params=?0, except=("x")',
      'params=("a"), except=("x")',
      'params=(), except=()',
      'params=a, except=("x")',
    ],
    ...[
      'except="not an inner list"',
      'except=(not-a-string)',
      'except=?1',
      'params, except=a',
      'params, except=?1',
    ],
    ...['params=()', 'key-order=?0', 'params=(), key-order=?0', '', 'x=1', 'params=("a"', 'params=("a" 1)'],
    ...['KEY-ORDER', 'params=(%"a")', 'key-order;', 'params=("é")', `params=("${'a'.repeat(5_000)}")`],
  ])('No-Vary-Search, sections 5.1 and 5.2: the field %j declares no rule', (field) => {
    expect(ruleOf(field)).toBe(undefined);
  });

  const under = (field: string, search: string) => {
    const rule = searchRule({ 'no-vary-search': field });
    return rule && urlUnder(rule, `/a${search}`, undefined);
  };

  it.each([
    ['key-order', ['?b=1&a=2&b=0', '?a=2&b=1&b=0', '?&b=1&&b=0&a=2&']],
    ['key-order', ['', '?', '?&&']],
    [UTM, ['?id=1', '?utm_source=x&id=1', '?id=1&utm_%73ource=y&utm_medium', '?id=1&']],
    ['except=("productId")', ['?productId=1', '?x&productId=1&y=2', '?PRODUCTID=2&productId=1']],
    ['except=()', ['', '?a', '?a=1&b=2', '?%61']],
    ['params=("%C3%A9+%E6%B0%97")', ['?', '?%C3%A9%20%E6%B0%97=3', '?%C3%A9+%E6%B0%97=4']],
    ['params=("a[b]")', ['?a=1', '?b=1'].slice(0, 1)],
  ])('No-Vary-Search, section 6: with the field %s, all queries of %j are equivalent', (field, searches) => {
    const [first, ...others] = searches.map((search) => under(field, search));
    expect(first).toBeTypeOf('string');
    for (const other of others) expect(other).toBe(first);
  });

  it.each<[string, string[]]>([
    ['key-order', ['?a=1&a=2', '?a=2&a=1', '?a=1', '?a=1&b', '?b']],
    [UTM, ['?utm_term=1', '?utm_source[x]=1', '?[utm_source]=1', '?UTM_SOURCE=1', '']],
    // Parsers for nested parameters join these.
    ['except=("a")', ['', '?a=1', '?a[b]=1', '?[a]=1', '?%61=1', '?a%5Bb%5D=1', '?a[]=1']],
    ['except=("a[b]")', ['', '?a[b]=1', '?a=1', '?a[b][c]=1']],
    ['params=("a")', ['?a=1&a[b]=2', '?a[b]=2', '?a=2&a[b]=2']],
    ['key-order', ['?a=1&a[]=2', '?a[]=2&a=1']],
    // The equivalent spellings of section 6.1 only cost a miss.
    ['key-order', ['?a=%C3%A9', '?a=%c3%a9', '?a', '?a=']],
  ])(
    'No-Vary-Search, section 6: with the field %s, no two queries of %j are equivalent',
    (field, searches) => {
      expect(new Set(searches.map((search) => under(field, search))).size).toBe(searches.length);
    },
  );

  it.each([
    ...['?utm_source=1#&id=2', '?%FF=1&id=2', '?x=[utm_source]=1', '?utm_source=[x]=1', '?a=%5Db%5D=1'],
    `?${'a&'.repeat(1_000)}`,
  ])(
    'No-Vary-Search, section 8: a URL that parsers may read differently, like %.30s, keeps its exact key',
    (search) => {
      for (const field of [UTM, 'key-order', 'except=("id")']) expect(under(field, search)).toBe(undefined);
    },
  );
});

onEveryStore('No-Vary-Search', (makeKit) => {
  describe.each(SERVERS)('on %s', (_, makeServer) => {
    it('No-Vary-Search, section 1: with key-order, the order of parameters with different names selects no other response', async () => {
      const { ask } = await page(makeKit(), 'key-order', { makeServer });
      expect(await ask('/a?b=1&a=2')).toBe('for /a?b=1&a=2');
      expect(await ask('/a?a=2&b=1')).toBe('for /a?b=1&a=2');
      expect(await ask('/a?a=2&b=1&b=0')).toBe('for /a?a=2&b=1&b=0');
      expect(await ask('/a?b=0&a=2&b=1')).toBe('for /a?b=0&a=2&b=1');
      expect(await ask('/a?a=2')).toBe('for /a?a=2');
      expect(await ask('/b?b=0&a=2&b=1')).toBe('for /b?b=0&a=2&b=1');
    });

    it('No-Vary-Search, section 1: with params, the named parameters select no other response, and all others do', async () => {
      const { ask, request } = await page(makeKit(), UTM, { makeServer });
      await ask('/a?id=1&utm_source=x');
      for (const path of ['/a?id=1', '/a?utm_medium=y&id=1&utm_campaign=z', '/a?id=1&utm_source=x']) {
        const answer = await request(path);
        expect([answer.text, isHit(answer)], path).toEqual(['for /a?id=1&utm_source=x', true]);
        expect(answer.headers['no-vary-search']).toBe(UTM);
      }
      for (const path of ['/a', '/a?id=2', '/a?id=1&utm_term=1', '/A?id=1'])
        expect(await ask(path), path).toBe(`for ${path}`);
    });

    it('No-Vary-Search, section 1: with except, only the named parameters select another response', async () => {
      const { ask } = await page(makeKit(), 'except=("productId")', { makeServer });
      expect(await ask('/a?productId=1&x=1')).toBe('for /a?productId=1&x=1');
      expect(await ask('/a?y&productId=1')).toBe('for /a?productId=1&x=1');
      for (const path of ['/a?productId=2', '/a', '/a?productId=1&productId=2', '/a?product%49d=1'])
        expect(await ask(path), path).toBe(`for ${path}`);
    });

    it('No-Vary-Search, section 6: with an empty except, no parameter selects another response', async () => {
      const { ask, runs } = await page(makeKit(), 'except=()', { makeServer });
      for (const path of ['/a?x=1', '/a', '/a?', '/a?y[z]=2&x']) expect(await ask(path)).toBe('for /a?x=1');
      expect(runs).toHaveLength(1);
    });
  });

  it('`params, except=("a")` of the earlier drafts leaves all parameters but `a` out of the key', async () => {
    const { ask } = await page(makeKit(), 'params, except=("a")');
    expect(await ask('/a?x=1&a=1')).toBe('for /a?x=1&a=1');
    expect(await ask('/a?a=1&x=2')).toBe('for /a?x=1&a=1');
    expect(await ask('/a?a=2')).toBe('for /a?a=2');
  });

  it('No-Vary-Search, section 5: an invalid field leaves the whole query in the key', async () => {
    const { ask } = await page(makeKit(), 'params=("x"), except=("a")');
    for (const path of ['/a?x=1', '/a', '/a?x=2']) expect(await ask(path)).toBe(`for ${path}`);
    expect(await ask('/a?x=1')).toBe('for /a?x=1');
  });

  it('No-Vary-Search, section 7: concurrent requests for one URL wait for the response that declares the rule', async () => {
    const gate = new Gate();
    const { request, runs } = await page(makeKit(), async ({ res }) => {
      await gate.promise;
      res.setHeader('No-Vary-Search', 'except=()');
    });
    const answers = Promise.all(['/a?x', '/a?x', '/a?x'].map((path) => request(path)));
    await until('the handler runs', () => runs.length === 1);
    gate.open();
    expect((await answers).map(({ text }) => text)).toEqual(['for /a?x', 'for /a?x', 'for /a?x']);
    expect(runs).toHaveLength(1);
  });

  it('No-Vary-Search, section 7: followers under an old rule get the response of a new rule only if the new rule allows their URL', async () => {
    let field = 'except=()';
    let gate: Promise<void> | undefined;
    const open = new Gate();
    const kit = makeKit();
    const { ask, request, runs } = await page(kit, async ({ res }) => {
      await gate;
      res.setHeader('No-Vary-Search', field);
    });
    await ask('/a?x=1');
    await kit.invalidate({ url: '/a' });
    [field, gate] = ['params=("utm")', open.promise];
    const paths = ['/a?x=1', '/a?x=2', '/a?x=2&utm=1', '/a?x=3', '/a?x=1&utm=2'];
    const answers = Promise.all(paths.map((path) => request(path)));
    await until('the handler runs', () => runs.length === 2);
    open.open();
    const texts = (await answers).map(({ text }) => text.replace(/&utm=\d/, ''));
    expect(texts).toEqual(['for /a?x=1', 'for /a?x=2', 'for /a?x=2', 'for /a?x=3', 'for /a?x=1']);
    expect(runs).toHaveLength(4);
  });

  it('No-Vary-Search, section 7: a response is stored under its own rule even if another rule was known', async () => {
    let field = 'except=()';
    const kit = makeKit();
    const { ask } = await page(kit, ({ res }) => void res.setHeader('No-Vary-Search', field));
    await ask('/a?x=1');
    await kit.invalidate({ all: true });
    field = 'except=("x")';
    expect(await ask('/a?x=2')).toBe('for /a?x=2');
    expect(await ask('/a?x=1')).toBe('for /a?x=1');
    expect(await ask('/a?x=2&y=1')).toBe('for /a?x=2');
    await kit.invalidate({ all: true });
    field = 'except=()';
    expect(await ask('/a?x=3')).toBe('for /a?x=3');
    expect(await ask('/a?x=1')).toBe('for /a?x=3');
  });

  it('No-Vary-Search, section 7: a response without a rule answers only its own URL, and other responses keep their rule', async () => {
    const { ask, runs } = await page(makeKit(), ({ url, res }) => {
      if (url.includes('missing')) res.setHeader('Cache-Control', 'max-age=60');
      else res.setHeader('No-Vary-Search', 'except=("id")');
    });
    await ask('/a?id=1&x=1');
    expect(await ask('/a?id=2&missing')).toBe('for /a?id=2&missing');
    expect(await ask('/a?id=2&missing')).toBe('for /a?id=2&missing');
    expect(await ask('/a?id=2')).toBe('for /a?id=2');
    expect(await ask('/a?id=1&x=2')).toBe('for /a?id=1&x=1');
    expect(runs).toHaveLength(3);
  });

  it('No-Vary-Search, section 7: responses are selected by the whole query again when the app no longer declares a rule', async () => {
    let field: string | undefined = 'except=()';
    const kit = makeKit();
    const { ask, runs } = await page(kit, ({ res }) => {
      if (field !== undefined) res.setHeader('No-Vary-Search', field);
    });
    await ask('/a?x=1');
    field = undefined;
    await kit.invalidate({ all: true });
    for (const path of ['/a?x=1', '/a?x=2', '/a?x=1', '/a?x=2']) expect(await ask(path)).toBe(`for ${path}`);
    expect(runs).toHaveLength(3);
  });

  it('No-Vary-Search, section 7: with alternating rules, a response is never sent for a URL that its own rule does not allow', async () => {
    const fields = ['except=()', undefined, 'params=("a")', 'key-order', 'except=("b")'];
    let at = 0;
    const declared = new Map<string, string | undefined>();
    const { request } = await page(
      makeKit(),
      ({ url, res }) => {
        const field = fields[at++ % fields.length];
        if (field !== undefined) res.setHeader('No-Vary-Search', field);
        const body = `${at} ${url}`;
        declared.set(body, field);
        res.end(body);
      },
      { ttl: '1h' },
    );
    const searches = ['?a=1&b=1', '?b=1&a=1', '?b=1', '?a=2&b=2', '?a=1', '?b=2&c', ''];
    for (let round = 0; round < 6; round++) {
      const asked = searches.flatMap((search) => [search, search]);
      const answers = await Promise.all(asked.map((search) => request(`/a${search}`)));
      for (const [index, { text }] of answers.entries()) {
        const rule = searchRule({ 'no-vary-search': declared.get(text) });
        const made = text.slice(text.indexOf(' ') + 1);
        const keyOf = (url: string) => (rule === undefined ? url : urlUnder(rule, url, undefined));
        expect(keyOf(`/a${asked[index]}`), `${text} for ${asked[index]}`).toBe(keyOf(made));
      }
    }
  });

  it('No-Vary-Search, section 7: a response is invalidated by each of the URLs that it answers', async () => {
    const kit = makeKit();
    const { ask, request, runs } = await page(kit, 'except=("id")');
    const paths = ['/a?id=1&x=1', '/a?id=1&x=2', '/a?id=1'];
    await ask('/a?id=1&x=1');
    let count = 1;
    for (const url of paths) {
      await kit.invalidate({ url });
      for (const path of paths) await ask(path);
      expect(runs.length, url).toBe(++count);
    }
    await kit.invalidate({ url: '/b?id=1' });
    await ask('/a?id=1&x=2');
    expect(runs).toHaveLength(count);
    for (const method of ['POST', 'DELETE']) {
      await request('/a?id=1&y=3', { method });
      await ask('/a?id=1&x=2');
      count += 2;
      expect(runs.length, method).toBe(count);
    }
  });

  it('No-Vary-Search, section 7: a response is invalidated while its handler runs, by another URL that it answers', async () => {
    const kit = makeKit();
    let change: Promise<void> | undefined;
    const { ask } = await page(kit, async ({ res, url }) => {
      if (url === '/a?x=1') change = kit.invalidate({ url: '/a?x=2' });
      await change;
      res.setHeader('No-Vary-Search', 'except=()');
    });
    await ask('/a?x=1');
    expect(await ask('/a?x=2')).toBe('for /a?x=2');
  });

  it('No-Vary-Search, section 7: Vary selects among the responses under one rule', async () => {
    const { ask, runs } = await page(makeKit(), ({ res, headers }) => {
      res.setHeader('No-Vary-Search', 'except=()');
      res.setHeader('Vary', 'Accept-Language');
      res.end(String(headers['accept-language']));
    });
    const inLanguage = (path: string, language: string) =>
      ask(path, { headers: { 'Accept-Language': language } });
    for (const path of ['/a?x=1', '/a?x=2', '/a?x=1', '/a']) {
      for (const language of ['de', 'en']) expect(await inLanguage(path, language)).toBe(language);
    }
    expect(runs).toHaveLength(2);
  });

  it('a HEAD gets the stored response of a URL that No-Vary-Search makes equivalent', async () => {
    const { ask, request, runs } = await page(makeKit(), 'except=()');
    await ask('/a?x=1');
    const head = await request('/a?x=2', { method: 'HEAD' });
    expect([isHit(head), head.headers['content-length'], head.text]).toEqual([true, '10', '']);
    expect(runs).toHaveLength(1);
  });

  it('a range request gets a part of a stored whole or a stored part of an equivalent URL', async () => {
    const { ask, request, runs } = await page(makeKit(), ({ url, headers, res }) => {
      res.setHeader('No-Vary-Search', 'except=("id")');
      if (url.startsWith('/part') && headers.range !== undefined) {
        res.writeHead(206, { 'Content-Range': 'bytes 0-3/20', ETag: '"1"' }).end('part');
      } else if (url.startsWith('/part')) res.setHeader('Set-Cookie', 'a=b');
    });
    await ask('/a?id=1&x=1');
    const range = { Range: 'bytes=4-' };
    expect((await request('/a?id=1&x=2', { headers: range })).text).toBe('/a?id=1&x=1');
    expect(runs).toHaveLength(1);
    // By then the whole is known not to be storable.
    for (let round = 0; round < 2; round++) await ask('/part?id=1&x=1', { headers: { Range: 'bytes=0-3' } });
    const inside = { headers: { Range: 'bytes=1-2' } };
    const hit = await request('/part?id=1&x=2', inside);
    expect([hit.status, hit.text, isHit(hit)]).toEqual([206, 'ar', true]);
    expect(isHit(await request('/part?id=2', inside))).toBe(false);
  });

  it('a parameter that `key.query` ignores selects no other response under a No-Vary-Search rule', async () => {
    const { ask, runs } = await page(makeKit(), 'params=("a")', { key: { query: { ignore: ['b'] } } });
    await ask('/a?a=1&b=1&c=1');
    for (const path of ['/a?c=1', '/a?b=2&c=1', '/a?a=2&c=1'])
      expect(await ask(path)).toBe('for /a?a=1&b=1&c=1');
    expect(await ask('/a?c=2')).toBe('for /a?c=2');
    expect(runs).toHaveLength(2);
  });

  it('the headers in `key.headers` select responses under a No-Vary-Search rule as well', async () => {
    const { ask, runs } = await page(makeKit(), 'except=()', { key: { headers: ['X-Tenant'] } });
    const by = (path: string, tenant: string) => ask(path, { headers: { 'X-Tenant': tenant } });
    expect(await by('/a?x=1', 'a')).toBe('for /a?x=1');
    expect(await by('/a?x=2', 'b')).toBe('for /a?x=2');
    expect(await by('/a?x=3', 'a')).toBe('for /a?x=1');
    expect(await by('/a?x=3', 'b')).toBe('for /a?x=2');
    expect(runs).toHaveLength(2);
  });

  it('a `key` function overrides No-Vary-Search', async () => {
    const options = { key: (req: { url: string }) => req.url };
    const kit = makeKit();
    const { ask, runs } = await page(kit, 'except=()', options);
    for (const path of ['/a?x=1', '/a?x=2', '/a']) expect(await ask(path)).toBe(`for ${path}`);
    await kit.invalidate({ key: '/a?x=2' });
    for (const path of ['/a?x=1', '/a?x=2']) await ask(path);
    expect(runs).toHaveLength(4);
  });

  it('the response to a POST with a Content-Location answers a GET of an equivalent URL', async () => {
    const kit = makeKit();
    const { ask, request, runs } = await page(kit, ({ method, res, url }) => {
      res.setHeader('No-Vary-Search', 'except=("id")');
      res.setHeader('Cache-Control', 'max-age=60');
      if (method === 'POST') res.writeHead(200, { 'Content-Location': url }).end('posted');
    });
    await ask('/a?id=1&x=1');
    await until('this process hears of invalidations, and stores the response to a POST', async () => {
      expect((await request('/a?id=1&x=2', { method: 'POST' })).text).toBe('posted');
      return (await ask('/a?id=1&x=3')) === 'posted';
    });
    const count = runs.length;
    expect(await ask('/a?id=1')).toBe('posted');
    expect(runs).toHaveLength(count);
  });

  it('no rule is applied when earlier middleware removes No-Vary-Search while the head is sent', async () => {
    const makeServer: MakeServer = (above, handler) => {
      const removeField: Middleware = (_req, res, next) => {
        onHeaders(res, () => res.removeHeader('No-Vary-Search'));
        next();
      };
      return makeNodeServer([removeField, ...above], handler);
    };
    const { ask } = await page(makeKit(), 'except=()', { makeServer });
    for (const path of ['/a?x=1', '/a?x=2', '/a']) expect(await ask(path)).toBe(`for ${path}`);
  });

  it('two caches on one route run the handler once and share one stored response', async () => {
    const kit = makeKit();
    const inner = kit.cache({ ttl: '1m' });
    const makeServer: MakeServer = (above, handler) => makeNodeServer([...above, inner], handler);
    const { address, runs } = await page(kit, 'except=()', { makeServer });
    const stored = eventsOf(kit, 'cache:stored');
    await send(`${address}/a?x=1`);
    await until('it is stored', () => stored.length > 0);
    for (const path of ['/a?x=2', '/a?x=1', '/a'])
      expect((await send(address + path)).text).toBe('for /a?x=1');
    expect(runs).toHaveLength(1);
    await kit.invalidate({ all: true });
    await send(`${address}/a?x=2`);
    await until('it is stored again', () => stored.length > 1);
    await send(`${address}/a?x=3`);
    expect([runs.length, stored.length]).toEqual([2, 2]);
  });
});

describe('No-Vary-Search in two processes on one Redis', () => {
  beforeAll(() => loadCacheScripts(redisUrl()));

  async function twoProcesses(says: Saying) {
    const prefix = testPrefix();
    const [one, other] = [kitForTest({ url: redisUrl(), prefix }), kitForTest({ url: redisUrl(), prefix })];
    return { kits: [one, other] as const, pages: [await page(one, says), await page(other, says)] as const };
  }

  it('a process finds the responses of another process once its own handler has declared the rule of the path', async () => {
    const { pages } = await twoProcesses('except=("id")');
    const [one, other] = pages;
    await one.ask('/a?id=1&x=1');
    await one.ask('/a?id=2&x=1');
    expect(await other.ask('/a?id=3')).toBe('for /a?id=3');
    expect(await other.ask('/a?id=1')).toBe('for /a?id=1&x=1');
    expect(await other.ask('/a?id=2')).toBe('for /a?id=2&x=1');
    expect(other.runs).toHaveLength(1);
  });

  it('an invalidation by a process that has seen no rule reaches every URL that the response answers', async () => {
    const { kits, pages } = await twoProcesses('except=("id")');
    const [one, other] = pages;
    await one.ask('/a?id=1&x=1');
    const changes = [
      () => kits[1].invalidate({ url: '/a?id=1&never=asked' }),
      () => other.request('/a?x=5&id=1', { method: 'PUT' }),
    ];
    for (const [index, change] of changes.entries()) {
      await change();
      await until('the purge is heard', async () => !isHit(await one.request('/a?id=1&x=2')));
      expect(one.runs.length).toBeGreaterThan(index + 1);
      await one.ask('/a?id=1');
    }
  });

  it('two processes that have seen different rules never send a response for a URL that its rule does not allow', async () => {
    let field = 'except=()';
    const { kits, pages } = await twoProcesses(({ res }) => void res.setHeader('No-Vary-Search', field));
    const [one, other] = pages;
    await one.ask('/a?x=1');
    await other.ask('/a?x=2');
    field = 'except=("x")';
    await kits[0].invalidate({ all: true });
    await until('the purge is heard', async () => !isHit(await other.request('/a?x=3')));
    for (const each of [one, other, one])
      for (const path of ['/a?x=1', '/a?x=2']) expect(await each.ask(path)).toBe(`for ${path}`);
  });
});

describeOnBothEngines('No-Vary-Search and the parsers of Express', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  describe.each(EXPRESS)('on %s', (_, makeApp) => {
    async function site(parser: unknown, field: string) {
      const kit = kitForTest({ url: url() });
      const app = makeApp().set('query parser', parser);
      app.use(kit.cache({ ttl: '1m' }), (req, res) => {
        res.setHeader('No-Vary-Search', field).send(`a is ${JSON.stringify(req.query.a)}`);
      });
      const port = Number(new URL(await serve(app)).port);
      return async (search: string) => (await askRaw(port, { path: `/${search}` })).body;
    }

    it.each([
      [
        'except=("a")',
        ['?a=1', '?a[b]=1', '?[a]=1', '?%61[c]=1', '?a[]=1&a[]=2', '?a[]=2&a[]=1', '?x=[a]=1', ''],
      ],
      ['params=("b")', ['?a=1', '?b=1#&a=1', '?b=1&a=2', '?b&a[x]=1', '?a=1&a[x]=1', '?b=[a]=1&b']],
      ['key-order', ['?a=1&a[]=2', '?a[]=2&a=1', '?[a]=3&a=2', '?a=2&[a]=3', '?a[x]=1&a[y]=2']],
    ])(
      'with %s and the extended parser, a response never depends on the URL of an earlier request',
      async (field, searches) => {
        for (const order of [searches, searches.toReversed()]) {
          const ask = await site('extended', field);
          const fresh = await site('extended', 'x');
          await ask('?first');
          for (const search of order) expect(await ask(search), search).toBe(await fresh(search));
        }
      },
    );

    it('a URL of which the parser of the app reads other values under a rule keeps its exact key', async () => {
      const parse = (text: string) => ({
        ...qs.parse(text, '&', '=', { maxKeys: 3 }),
        ...(text.includes('c=x') ? { a: 'c' } : {}),
      });
      const ask = await site(parse, 'except=("a")');
      expect(await ask('?a=0')).toBe('a is "0"');
      expect(await ask('?b&b&b&a=1')).toBe('a is undefined');
      expect(await ask('?a=1&c=x')).toBe('a is "c"');
      expect(await ask('?a=1')).toBe('a is "1"');
      expect(await ask('?b=2&a=1')).toBe('a is "1"');
    });

    it('a URL with more than 1,000 parameters keeps its exact key', async () => {
      const ask = await site('extended', 'except=("a")');
      await ask('?a=0');
      expect(await ask(`?${'b&'.repeat(1_000)}a=1`)).toBe('a is undefined');
      expect(await ask('?a=1')).toBe('a is "1"');
    });

    it('a URL with a fragment cannot poison the response to a URL with other parameters', async () => {
      const kit = kitForTest({ url: url() });
      const app = makeApp();
      app.use(kit.cache({ ttl: '1m', key: { query: { ignore: ['b'] } } }), (req, res) => {
        res.send(`a is ${JSON.stringify(req.query.a)}`);
      });
      const port = Number(new URL(await serve(app)).port);
      expect((await askRaw(port, { path: '/?b=1#&a=1' })).body).toBe('a is undefined');
      expect((await askRaw(port, { path: '/?a=1' })).body).toBe('a is "1"');
    });
  });
});

describeOnBothEngines('No-Vary-Search and stale responses', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function staleSite(
    says: (run: number, res: ServerResponse, ifNoneMatch: string | undefined) => void,
  ) {
    const { kit, local, pass } = agingKit(url());
    const stored = eventsOf(kit, 'cache:stored');
    const refused = eventsOf(kit, 'cache:refresh-refused');
    let runs = 0;
    const app = express().set('env', 'test');
    app.use(kit.cache({ ttl: '10s', staleWhileRevalidate: '1h', local }), (req, res) => {
      says(++runs, res, req.headers['if-none-match']);
      if (!res.headersSent) res.end(`${runs} for ${req.originalUrl}`);
    });
    const address = await serve(app);
    const ask = async (path: string) => (await send(address + path)).text;
    return {
      ask,
      pass,
      refused,
      runs: () => runs,
      storedAll: (count: number) => until('it is stored', () => stored.length >= count),
    };
  }

  it('a stale response answers an equivalent URL, and its refresh answers both URLs', async () => {
    const { ask, pass, storedAll } = await staleSite(
      (_run, res) => void res.setHeader('No-Vary-Search', 'except=()'),
    );
    await ask('/a?x=1');
    await storedAll(1);
    await pass(11_000);
    expect(await ask('/a?x=2')).toBe('1 for /a?x=1');
    await storedAll(2);
    expect(await ask('/a?x=3')).toBe('2 for /a?x=2');
  });

  it.each([
    ['another rule', 'except=("x")'],
    ['no rule', undefined],
  ])(
    'a refresh that declares %s is stored under the new key, and no longer answers other URLs',
    async (_name, field) => {
      const site = await staleSite((run, res) => {
        if (run === 1) res.setHeader('No-Vary-Search', 'except=()');
        else if (field !== undefined) res.setHeader('No-Vary-Search', field);
      });
      const { ask, pass, storedAll, runs, refused } = site;
      await ask('/a?x=1');
      await storedAll(1);
      await pass(11_000);
      expect(await ask('/a?x=2')).toBe('1 for /a?x=1');
      await storedAll(2);
      expect(await ask('/a?x=2')).toBe('2 for /a?x=2');
      expect(await ask('/a?x=3')).not.toContain('for /a?x=2');
      expect([runs() <= 3, refused]).toEqual([true, []]);
    },
  );

  it('RFC 9111, section 3.2: a 304 that changes No-Vary-Search stores the response under the new rule', async () => {
    const site = await staleSite((run, res, ifNoneMatch) => {
      res
        .setHeader('ETag', `"${run === 3 ? 3 : 1}"`)
        .setHeader('No-Vary-Search', run === 1 ? 'except=()' : 'except=("x")');
      if (ifNoneMatch === '"1"' && run === 2) res.writeHead(304).end();
    });
    const { ask, pass, storedAll, runs } = site;
    await ask('/a?x=1');
    await storedAll(1);
    await pass(11_000);
    expect(await ask('/a?x=2')).toBe('1 for /a?x=1');
    await storedAll(2);
    expect(await ask('/a?x=2&y')).toBe('1 for /a?x=1');
    expect(await ask('/a?x=3')).toBe('3 for /a?x=3');
    expect(runs()).toBe(3);
  });

  it('a refresh reaches its handler when another response declares a new rule meanwhile', async () => {
    const { kit, local, pass } = agingKit(url());
    const [stored, refused] = [eventsOf(kit, 'cache:stored'), eventsOf(kit, 'cache:refresh-refused')];
    const arrived = new Gate();
    const gate = new Gate();
    let runs = 0;
    const app = express().set('env', 'test');
    app.use(async (req, _res, next) => {
      if (isRevalidation(req)) {
        arrived.open();
        await gate.promise;
      }
      next();
    });
    app.use(kit.cache({ ttl: '10s', staleWhileRevalidate: '1h', local }), (req, res) => {
      res.setHeader('No-Vary-Search', ++runs === 1 ? 'params=("y")' : 'except=("x")');
      res.end(`${runs} for ${req.url}`);
    });
    const address = await serve(app);
    const ask = async (path: string) => (await send(address + path)).text;
    await ask('/a?x=1');
    await until('it is stored', () => stored.length === 1);
    await pass(11_000);
    expect(await ask('/a?x=1')).toBe('1 for /a?x=1');
    await arrived.promise;
    expect(await ask('/a?x=2')).toBe('2 for /a?x=2');
    gate.open();
    await until('the refreshed response is stored as well', () => stored.length === 3);
    expect(await ask('/a?x=1&z')).toBe('3 for /a?x=1');
    expect(refused).toEqual([]);
  });
});

describe('No-Vary-Search and QUERY', () => {
  it('RFC 10008, section 2.7: No-Vary-Search does not remove the content of a QUERY from the key', async () => {
    const kit = kitForTest({ url: 'memory:' });
    let runs = 0;
    const app = express().use(express.json(), kit.cache({ ttl: '1m' }), (req, res) => {
      res
        .setHeader('No-Vary-Search', 'except=()')
        .send(`${++runs} ${req.method} ${JSON.stringify(req.body)}`);
    });
    const address = await serve(app);
    const query = async (path: string, body: string) => {
      const headers = { 'Content-Type': 'application/json' };
      return (await send(address + path, { method: 'QUERY', body, headers })).text;
    };
    expect(await query('/a?x=1', '{"p":1}')).toBe('1 QUERY {"p":1}');
    expect(await query('/a?x=2', '{"p":1}')).toBe('1 QUERY {"p":1}');
    expect(await query('/a?x=2', '{"p":2}')).toBe('2 QUERY {"p":2}');
    expect((await send(`${address}/a?x=2`)).text).toMatch(/^3 GET/);
  });
});
