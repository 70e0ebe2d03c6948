import { once } from 'node:events';
import { request } from 'node:http';
import type { RequestHandler } from 'express';
import onHeaders from 'on-headers';
import { describe, expect, it } from 'vitest';
import { Gate } from '../http/exchange.ts';
import { EXPRESS } from '../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { onHeaders102 } from '../support/older-releases.ts';
import { send, serve } from '../support/web.ts';

const VERSIONS = [
  ['on-headers 1.1.0', onHeaders],
  ['on-headers 1.0.2', onHeaders102],
] as const;

describeOnBothEngines('kit.session', (url) => {
  describe.each(EXPRESS)('on %s', (_, makeApp) => {
    async function start(change: RequestHandler) {
      const kit = kitForTest({ url: url() });
      const app = makeApp();
      app.use(kit.session({ secret: 'a secret for this test' }));
      app.get('/change', change);
      app.get('/read', (req, res) => void res.json({ seen: Reflect.get(req.session, 'seen') ?? null }));
      app.get('/begin', (req, res) => {
        Object.assign(req.session, { begun: true });
        res.end();
      });
      const address = await serve(app);
      const first = await send(`${address}/begin`);
      const cookie = String(first.headers['set-cookie']).split(';')[0] ?? '';
      const read = () => send(`${address}/read`, { headers: { Cookie: cookie } });
      return { address, cookie, read };
    }

    it.each(VERSIONS)(
      'a change by a listener of %s while the headers are sent is saved',
      async (_v, listen) => {
        const { address, cookie, read } = await start((req, res) => {
          listen(res, () => void Object.assign(req.session, { seen: 'late' }));
          res.send('page');
        });
        await send(`${address}/change`, { headers: { Cookie: cookie } });
        expect((await read()).text).toBe('{"seen":"late"}');
      },
    );

    it('a session change after the last write is saved before the client gets the last byte', async () => {
      const written = new Gate();
      const change = new Gate();
      const { address, cookie, read } = await start(async (req, res) => {
        res.setHeader('Content-Length', 4);
        res.write('page');
        written.open();
        await change.promise;
        Object.assign(req.session, { seen: 'after the last byte' });
        res.end();
      });
      const client = request(`${address}/change`, { agent: false, headers: { Cookie: cookie } });
      const answered = once(client, 'response');
      let isAnswered = false;
      client.once('response', () => {
        isAnswered = true;
      });
      client.end();
      await written.promise;
      // After a round trip on another connection, earlier bytes have arrived.
      await read();
      expect(isAnswered).toBe(false);
      change.open();
      const [response] = await answered;
      await once(response, 'data');
      expect((await read()).text).toBe('{"seen":"after the last byte"}');
    });

    it('a response whose session cannot be saved is replaced by a 500 at once, even if its handler still streams', async () => {
      const ended = new Gate();
      const { address, cookie } = await start((req, res) => {
        Object.assign(req.session, { circle: req.session });
        res.write('a piece');
        void ended.promise.then(() => res.end());
      });
      const { status } = await send(`${address}/change`, { headers: { Cookie: cookie } });
      ended.open();
      expect(status).toBe(500);
    });

    it.each<[string, RequestHandler]>([
      [
        'unset',
        (req, res) => {
          Reflect.set(req, 'session', null);
          res.writeHead(200).end('out');
        },
      ],
      [
        'ended',
        async (req, res) => {
          res.writeHead(200);
          await req.session.logout();
          res.end('out');
        },
      ],
    ])('the cookie of a session that is %s after `writeHead` is cleared', async (_way, handler) => {
      const kit = kitForTest({ url: url() });
      const app = makeApp();
      app.use(kit.session({ secret: 'a secret for this test', unset: 'destroy' }));
      app.get('/in', (req, res) => {
        Object.assign(req.session, { begun: true });
        res.end();
      });
      app.get('/out', handler);
      const address = await serve(app);
      const cookie = String((await send(`${address}/in`)).headers['set-cookie']).split(';')[0] ?? '';
      const { headers } = await send(`${address}/out`, { headers: { Cookie: cookie } });
      expect(headers['set-cookie']).toEqual([expect.stringMatching(/^connect\.sid=;.*1970/)]);
    });
  });
});
