import express, { type RequestHandler } from 'express';
import { beforeAll, describe, expect, it } from 'vitest';
import { APPS, EXPRESS } from '../../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { send, serve } from '../../support/web.ts';
import { agingKit } from '../aging.ts';
import { loadCacheScripts } from '../scripts.ts';

const JSON_TYPE = { 'Content-Type': 'application/json' };

describeOnBothEngines('the method QUERY', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  describe.each(EXPRESS)('on %s', (_, makeApp) => {
    async function served(parser: RequestHandler | undefined, handler?: RequestHandler) {
      const kit = kitForTest({ url: url() });
      let runs = 0;
      const app = makeApp();
      if (parser !== undefined) app.use(parser);
      app.use(kit.cache({ ttl: '1m' }), (req, res, next) => {
        runs++;
        if (handler === undefined) res.send(`${req.method} ${JSON.stringify(req.body)}`);
        else handler(req, res, next);
      });
      const address = await serve(app);
      const query = (body: string, headers: Readonly<Record<string, string>> = JSON_TYPE) =>
        send(`${address}/a`, { method: 'QUERY', body, headers });
      return { kit, address, query, runs: () => runs };
    }

    it('a QUERY is cached by the content that a body parser has read', async () => {
      const { address, query, runs } = await served(express.json());
      for (let round = 0; round < 2; round++) {
        expect((await query('{"page":1}')).text).toBe('QUERY {"page":1}');
        expect((await query('{ "page": 2 }')).text).toBe('QUERY {"page":2}');
        expect((await query('{"page":2}')).text).toBe('QUERY {"page":2}');
        expect((await query('{}')).text).toBe('QUERY {}');
        expect((await send(`${address}/a`)).text).toMatch(/^GET/);
      }
      expect(runs()).toBe(4);
    });

    it.each<[string, RequestHandler, string, string]>([
      ['text', express.text(), 'text/plain', 'select 1'],
      ['bytes', express.raw(), 'application/octet-stream', 'bytes'],
      ['a form', express.urlencoded({ extended: true }), 'application/x-www-form-urlencoded', 'a=1&b[c]=2'],
      [
        'rawBody',
        express.json({ verify: (req, _res, bytes) => void Object.assign(req, { rawBody: bytes }) }),
        'application/json',
        '{"a":1}',
      ],
    ])('a QUERY is cached when a parser has read %s', async (_name, parser, type, body) => {
      const { query, runs } = await served(parser, (_req, res) => void res.send('body'));
      const headers = { 'Content-Type': type };
      await query(body, headers);
      await query(body, headers);
      expect(runs()).toBe(1);
      await query(`${body} `.replace('{', '{"b":2,'), headers);
      expect(runs()).toBe(2);
    });

    it('a QUERY with the same content and another Content-Type gets another response', async () => {
      const { query, runs } = await served(
        express.text({ type: () => true }),
        (_req, res) => void res.send('body'),
      );
      await query('a', { 'Content-Type': 'text/plain' });
      await query('a', { 'Content-Type': 'application/sql' });
      expect(runs()).toBe(2);
    });

    it.each<[string, RequestHandler | undefined, string, string]>([
      ['no parser has read it', undefined, 'application/json', '{}'],
      ['the parser reads another type', express.json(), 'text/plain', 'a'],
      [
        'something else consumed it',
        (req, _res, next) => {
          Object.assign(req, { body: {} });
          req.resume().on('end', () => next());
        },
        'application/sql',
        'select 1',
      ],
      [
        'it has files',
        (req, _res, next) => next(Object.assign(req, { body: { a: 1 } }) && undefined),
        'multipart/form-data; boundary=x',
        '--x--',
      ],
    ])(
      'a QUERY bypasses the cache when its content is unknown, since %s',
      async (_name, parser, type, body) => {
        const { query, runs } = await served(parser, (_req, res) => void res.send('body'));
        for (let request = 0; request < 2; request++) {
          const { status, headers } = await query(body, { 'Content-Type': type });
          expect([status, headers.age]).toEqual([200, undefined]);
        }
        expect(runs()).toBe(2);
      },
    );

    it('a stored response to a QUERY answers conditions, and is purged by its URL', async () => {
      const { kit, query, runs } = await served(express.json());
      const etag = String((await query('{"a":1}')).headers.etag);
      const conditional = await query('{"a":1}', { ...JSON_TYPE, 'If-None-Match': etag });
      expect([conditional.status, runs()]).toEqual([304, 1]);
      await kit.invalidate({ url: '/a' });
      await query('{"a":1}');
      expect(runs()).toBe(2);
    });
  });

  it.each(APPS)('a QUERY invalidates nothing on %s', async (_, makeApp) => {
    const kit = kitForTest({ url: url() });
    const purged = eventsOf(kit, 'cache:purged');
    let gets = 0;
    const app = makeApp();
    app.use(kit.cache({ ttl: '1m' }));
    app.use((req, res) => {
      if (req.method === 'GET') gets++;
      res.setHeader('Location', '/b');
      res.end('body');
    });
    const address = await serve(app);
    for (const path of ['/a', '/b']) await send(address + path);
    await send(`${address}/a`, { method: 'QUERY', body: '{}', headers: JSON_TYPE });
    for (const path of ['/a', '/b']) await send(address + path);
    expect([gets, purged]).toEqual([2, []]);
  });

  it('a stale response to a QUERY is refreshed by the request of its client', async () => {
    const { kit, local, pass } = agingKit(url());
    const stored = eventsOf(kit, 'cache:stored');
    const methods: string[] = [];
    const app = express().use(express.json(), kit.cache({ ttl: '10s', staleWhileRevalidate: '1m', local }));
    app.use((req, res) => {
      methods.push(req.method);
      res.send(JSON.stringify(req.body));
    });
    const address = await serve(app);
    const query = () => send(address, { method: 'QUERY', body: '{"a":1}', headers: JSON_TYPE });
    await query();
    await expect.poll(() => stored.length).toBe(1);
    await pass(20_000);
    expect((await query()).text).toBe('{"a":1}');
    expect(methods).toEqual(['QUERY', 'QUERY']);
  });
});
