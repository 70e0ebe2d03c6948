import express, { type RequestHandler } from 'express';
import helmet from 'helmet';
import onHeaders from 'on-headers';
import { describe, expect, it } from 'vitest';
import { EXPRESS } from '../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { compression17, morgan1100, onHeaders102, responseTime232 } from '../support/older-releases.ts';
import { type Answer, send, serve } from '../support/web.ts';
import { shop } from './shop.ts';

const VERSIONS = [
  ['on-headers 1.1.0', onHeaders],
  ['on-headers 1.0.2', onHeaders102],
] as const;

/** Ways in which a handler sends its response. */
const WAYS: readonly (readonly [name: string, handler: RequestHandler])[] = [
  ['with json()', (_req, res) => void res.status(201).json({ order: 1 })],
  ['by writeHead() and end()', (_req, res) => void res.writeHead(201, { 'X-Own': '1' }).end('{"order":1}')],
  [
    'by streaming',
    (_req, res) => {
      res.status(201).write('{"order"');
      setImmediate(() => res.end(':1}'));
    },
  ],
];

describeOnBothEngines('kit.idempotency and the headers of the handler', (url) => {
  const strayNames = ({ headers }: Answer) => Object.keys(headers).filter((name) => name.length === 1);

  describe.each(EXPRESS)('on %s', (_, makeApp) => {
    async function ordering(handlers: readonly RequestHandler[], above: readonly RequestHandler[] = []) {
      const kit = kitForTest({ url: url() });
      let runs = 0;
      const app = makeApp();
      for (const middleware of above) app.use(middleware);
      app.post(
        '/orders',
        kit.idempotency({ scope: () => 'everybody', fingerprint: () => 'same' }),
        (_req, _res, next) => void next(++runs && undefined),
        ...handlers,
      );
      const address = await serve(app);
      const order = (language = 'de') =>
        send(`${address}/orders`, {
          method: 'POST',
          headers: { 'Idempotency-Key': '"k-1"', 'X-Language': language },
        });
      return { order, runs: () => runs };
    }

    describe.each(VERSIONS)('with %s below kit.idempotency', (_version, listen) => {
      it.each(WAYS)(
        'a replay has the headers that a listener sets just before the head is sent %s',
        async (_way, handler) => {
          const { order, runs } = await ordering([
            (_req, res, next) => {
              listen(res, () => {
                res.setHeader('X-Late', 'yes');
                res.setHeader('Location', '/orders/1');
              });
              next();
            },
            handler,
          ]);
          for (const { status, headers } of [await order(), await order()]) {
            expect([status, headers['x-late'], headers.location]).toEqual([201, 'yes', '/orders/1']);
          }
          expect(runs()).toBe(1);
        },
      );
    });

    it('a replay lacks a header that earlier middleware set and the handler removed', async () => {
      const { order } = await ordering(
        [
          (_req, res) => {
            res.removeHeader('X-Frame-Options');
            res.status(201).end('made');
          },
        ],
        [helmet() as RequestHandler],
      );
      for (const { headers } of [await order(), await order()]) {
        expect(headers).not.toHaveProperty('x-frame-options');
        expect(headers).toHaveProperty('x-content-type-options');
      }
    });

    it('a replay has the header value of the first response even if the handler only repeated what middleware had set', async () => {
      const { order } = await ordering(
        [(_req, res) => void res.status(201).set('Content-Language', 'de').end('gemacht')],
        [(req, res, next) => void next(res.set('Content-Language', req.get('x-language')) && undefined)],
      );
      expect((await order('de')).headers['content-language']).toBe('de');
      expect((await order('fr')).headers['content-language']).toBe('de');
    });

    it('a replay has no RateLimit, X-Request-Id or Server-Timing of the first response', async () => {
      const { order } = await ordering([
        (_req, res) =>
          void res
            .status(201)
            .set({
              RateLimit: '"a";r=1;t=5',
              'X-Request-Id': 'r-1',
              'Server-Timing': 'db;dur=5',
              'X-Kept': '1',
            })
            .end('made'),
      ]);
      await order();
      const { headers } = await order();
      expect(headers).toMatchObject({ 'x-kept': '1', 'idempotent-replayed': 'true' });
      for (const name of ['ratelimit', 'x-request-id', 'server-timing'])
        expect(headers).not.toHaveProperty(name);
    });

    it('a replay works with older releases of morgan, response-time and compression', async () => {
      const neighbours = [
        morgan1100('tiny', { stream: { write: () => true } }),
        responseTime232(),
        compression17(),
      ];
      for (const place of ['above', 'below']) {
        const handlers = place === 'below' ? neighbours : [];
        const { order, runs } = await ordering(
          [...handlers, (_req, res) => void res.status(201).json({ order: 1 })],
          place === 'above' ? neighbours : [],
        );
        for (const answer of [await order(), await order()]) {
          expect([answer.status, answer.text, strayNames(answer)]).toEqual([201, '{"order":1}', []]);
        }
        expect(runs()).toBe(1);
      }
    });
  });

  it('a replayed 429 response has no Retry-After', async () => {
    const { order, runs } = await shop(kitForTest({ url: url() }), { store: () => true }, (_req, res) => {
      res.status(429).set('Retry-After', '60').end('too many');
    });
    expect((await order('"k"')).headers['retry-after']).toBe('60');
    const replay = await order('"k"');
    expect([replay.status, replay.headers['retry-after'], runs()]).toEqual([429, undefined, 1]);
  });

  it('a replay has the RateLimit field of a limiter before kit.idempotency, but not of a limiter after it', async () => {
    const kit = kitForTest({ url: url() });
    const app = express().set('env', 'test');
    const key = () => 'one';
    app.use(kit.rateLimit({ algorithm: 'sliding-window', name: 'all', limit: 100, window: '1h', key }));
    app.post(
      '/',
      kit.idempotency({ scope: () => 'everybody', fingerprint: () => 'same' }),
      kit.rateLimit({ algorithm: 'sliding-window', name: 'orders', limit: 5, window: '1h', key }),
      (_req, res) => void res.status(201).end('made'),
    );
    const address = await serve(app);
    const order = () => send(address, { method: 'POST', headers: { 'Idempotency-Key': '"k"' } });
    expect((await order()).headers.ratelimit).toMatch(/^"all";r=99;t=\d+, "orders";r=4;t=\d+$/);
    expect((await order()).headers.ratelimit).toMatch(/^"all";r=98;t=\d+$/);
  });
});
