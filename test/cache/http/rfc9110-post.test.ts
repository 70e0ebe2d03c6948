import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import express from 'express';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions, Middleware, RedisKit } from '../../../src/index.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { type Sent, send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';
import { type MakeServer, makeNodeServer, SERVERS } from '../servers.ts';

type Post = (req: IncomingMessage, res: ServerResponse) => void;

const FRESH = { 'Cache-Control': 'max-age=60', 'Content-Location': '/a' };

interface StartOptions {
  readonly cache?: CacheOptions;
  readonly below?: (kit: RedisKit) => readonly Middleware[];
  readonly makeServer?: MakeServer;
}

function answers(headers: OutgoingHttpHeaders, status = 200): Post {
  return (_req, res) => void res.writeHead(status, headers).end('posted');
}

describeOnBothEngines('RFC 9110, section 9.3.3: the response to a POST', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function start(
    post: Post,
    { cache = {}, below = () => [], makeServer = makeNodeServer }: StartOptions = {},
  ) {
    const kit = kitForTest({ url: url() });
    let runs = 0;
    const app = makeServer([kit.cache(cache), ...below(kit)], (req, res) => {
      if (req.method === 'POST') return post(req, res);
      runs++;
      res.setHeader('Cache-Control', 'max-age=60');
      res.setHeader('Vary', 'Accept');
      res.end(`got ${runs}`);
    });
    const address = await serve(app);
    const ask = (method: string, path = '/a', sent: Sent = {}) => send(address + path, { method, ...sent });
    await hearsOfInvalidations(kit);
    return { kit, ask, runs: () => runs };
  }

  /** Before the subscriber is connected no response to a POST is stored, since a purge by another process might be missed. */
  async function hearsOfInvalidations(kit: RedisKit): Promise<void> {
    const app = makeNodeServer([kit.cache()], (req, res) => {
      res.writeHead(200, FRESH).end(req.method);
    });
    const address = `${await serve(app)}/a`;
    await until('this process hears of invalidations', async () => {
      await send(address, { method: 'POST' });
      return (await send(address)).text === 'POST';
    });
  }

  /** The response to a GET after a POST. */
  async function afterPost(post: Post, options: StartOptions = {}, sent: Sent = {}): Promise<string> {
    const { ask } = await start(post, options);
    expect((await ask('POST', '/a', sent)).text).toBe('posted');
    return (await ask('GET')).text;
  }

  describe.each(SERVERS)('on %s', (_, makeServer) => {
    it('a stored response to a POST answers later GET and HEAD requests, and no later POST', async () => {
      let posts = 0;
      const post: Post = (_req, res) => {
        posts++;
        res.writeHead(200, { ...FRESH, 'X-Made-By': 'POST' });
        res.write('pos');
        res.end('ted');
      };
      const { ask, runs, kit } = await start(post, { makeServer });
      const stored = eventsOf(kit, 'cache:stored');
      expect((await ask('GET')).text).toBe('got 1');
      const first = await ask('POST', '/a', { body: '12345' });
      expect([first.text, first.headers['cache-status']]).toEqual(['posted', undefined]);
      const got = await ask('GET');
      expect([got.status, got.text, got.headers['x-made-by']]).toEqual([200, 'posted', 'POST']);
      expect(got.headers.age).toBeDefined();
      expect((await ask('HEAD')).headers['content-length']).toBe('6');
      expect((await ask('POST')).text).toBe('posted');
      await until('all three are stored', () => stored.length === 3);
      expect([posts, runs(), stored.map((event) => event.url)]).toEqual([2, 1, ['/a', '/a', '/a']]);
    });
  });

  it.each<[name: string, below: Middleware[], type: string, sent: string]>([
    ['json', [express.json()], 'application/json', '{"a":1}'],
    ['a form', [express.urlencoded({ extended: true })], 'application/x-www-form-urlencoded', 'a=1'],
    ['text', [express.text()], 'text/plain', 'a'],
  ])(
    'a response to a POST is stored when a body parser of Express after the cache has read %s',
    async (_name, below, type, sent) => {
      const bodies: unknown[] = [];
      const post: Post = (req, res) => {
        bodies.push(Reflect.get(req, 'body'));
        answers(FRESH)(req, res);
      };
      const request = { headers: { 'Content-Type': type }, body: sent };
      for (const [, makeServer] of SERVERS.slice(0, 2)) {
        expect(await afterPost(post, { below: () => below, makeServer }, request)).toBe('posted');
      }
      expect(bodies).not.toContain(undefined);
    },
  );

  it.each<[name: string, headers: OutgoingHttpHeaders]>([
    ['a relative reference', { 'Content-Location': 'a' }],
    ['an absolute URL', { 'Content-Location': 'http://HOST/a' }],
    [
      'an Expires of its own',
      { 'Cache-Control': undefined, Expires: new Date(Date.now() + 60_000).toUTCString() },
    ],
    ['a CDN-Cache-Control of its own', { 'Cache-Control': 'no-store', 'CDN-Cache-Control': 'max-age=60' }],
  ])('a response to a POST is stored with %s', async (_name, headers) => {
    const post: Post = (req, res) => {
      for (const [name, value] of Object.entries({ ...FRESH, ...headers })) {
        if (value !== undefined) res.setHeader(name, String(value).replace('HOST', String(req.headers.host)));
      }
      res.end('posted');
    };
    expect(await afterPost(post)).toBe('posted');
  });

  it.each<[name: string, headers: OutgoingHttpHeaders, status?: number]>([
    ['without Content-Location', { 'Cache-Control': 'max-age=60' }],
    ['with the Content-Location of another path', { ...FRESH, 'Content-Location': '/b' }],
    ['with the Content-Location of another query', { ...FRESH, 'Content-Location': '/a?x=1' }],
    ['with the Content-Location of another host', { ...FRESH, 'Content-Location': 'http://example.com/a' }],
    ['with two fields of Content-Location', { ...FRESH, 'Content-Location': ['/a', '/b'] }],
    ['without a lifetime', { 'Content-Location': '/a' }],
    ['without a lifetime that is left', { ...FRESH, Age: '60' }],
    ['that is private', { ...FRESH, 'Cache-Control': 'private, max-age=60' }],
    ['that forbids it', { ...FRESH, 'Cache-Control': 'no-store, max-age=60' }],
    ['with a cookie', { ...FRESH, 'Set-Cookie': 'a=b' }],
    ['that is a part', { ...FRESH, 'Content-Range': 'bytes 0-5/9' }, 206],
    ['with the status 201', FRESH, 201],
    ['with the status 404', FRESH, 404],
  ])('a response to a POST is not stored %s', async (_name, headers, status) => {
    expect(await afterPost(answers(headers, status))).toBe('got 1');
  });

  it('a response to a POST is not stored by the ttl of the app or by heuristics alone', async () => {
    const post = answers({
      'Content-Location': '/a',
      'Last-Modified': new Date(Date.now() - 86_400_000).toUTCString(),
    });
    expect(await afterPost(post, { cache: { ttl: '1m' } })).toBe('got 1');
    expect(await afterPost(post, { cache: { heuristics: true } })).toBe('got 1');
    expect(await afterPost(answers(FRESH), { cache: { ttl: '1m' } })).toBe('posted');
    expect(await afterPost(answers(FRESH), { cache: { ttl: () => false } })).toBe('got 1');
  });

  it('a response to a POST is not stored when its handler read an identity or called `noStore()`', async () => {
    const answer = answers(FRESH);
    const reads: Post[] = [
      (req) => void req.headers.cookie,
      (req) => void { ...req.headers },
      (req) => void Reflect.get(req, 'user'),
      (req) => void Reflect.get(req, 'session'),
      (req) => Reflect.get(req, 'cache').noStore(),
    ];
    for (const read of reads) {
      const post: Post = (req, res) => {
        read(req, res);
        answer(req, res);
      };
      expect(await afterPost(post)).toBe('got 1');
    }
    expect(await afterPost(answer, {}, { headers: { Authorization: 'Bearer a' } })).toBe('got 1');
  });

  it('a response to a POST is not stored when `key` or `key.session` is a function', async () => {
    for (const key of [(req: { url: string }) => req.url, { session: () => '' }]) {
      expect(await afterPost(answers(FRESH), { cache: { key } })).toBe('got 1');
    }
  });

  it('a response to a POST answers only requests with the header values that its Vary names', async () => {
    const { ask } = await start(answers({ ...FRESH, Vary: 'Accept' }));
    await ask('POST', '/a', { headers: { Accept: 'text/plain' } });
    expect((await ask('GET', '/a', { headers: { Accept: 'text/html' } })).text).toBe('got 1');
    expect((await ask('GET', '/a', { headers: { Accept: 'text/plain' } })).text).toBe('posted');
  });

  it('a response to a POST is not stored when another request invalidated its URL while its handler ran', async () => {
    const { kit, ask } = await start(async (_req, res) => {
      await kit.invalidate({ tags: 'anything' });
      res.writeHead(200, FRESH).end('posted');
    });
    await ask('POST');
    expect((await ask('GET')).text).toBe('got 1');
  });

  it('a stored response to a POST is invalidated by the next unsafe request', async () => {
    const { ask, kit } = await start(answers(FRESH));
    await ask('POST');
    expect((await ask('GET')).text).toBe('posted');
    await kit.invalidate({ url: '/a' });
    expect((await ask('GET')).text).toBe('got 1');
    await ask('POST');
    expect((await ask('GET')).text).toBe('posted');
    await ask('PUT');
    expect((await ask('GET')).text).toBe('got 3');
  });

  it('a response to a POST is not stored when kit.idempotency replays it', async () => {
    const { ask } = await start(
      (req, res) => {
        req.resume();
        answers(FRESH)(req, res);
      },
      { below: (kit) => [kit.idempotency({ scope: () => 'all', fingerprint: () => 'same' })] },
    );
    const sent = { headers: { 'Idempotency-Key': '"k"' }, body: 'x' };
    await ask('POST', '/a', sent);
    expect((await ask('GET')).text).toBe('posted');
    expect((await ask('POST', '/a', sent)).headers['idempotent-replayed']).toBe('true');
    expect((await ask('GET')).text).toBe('got 1');
  });

  it('a response to a POST over `maxBody` is sent whole and not stored', async () => {
    expect(await afterPost(answers(FRESH), { cache: { maxBody: 5 } })).toBe('got 1');
  });
});
