import { once } from 'node:events';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import { gunzipSync } from 'node:zlib';
import compression from 'compression';
import express, { type Request } from 'express';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Gate, listen, roundTrip, serve } from '../http/exchange.ts';
import { APPS, mount, onError } from '../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { Browser, type Routes, SECRET, serveSessions, withRoutes } from './browser.ts';

describeOnBothEngines('a response with a session', (url) => {
  const startKit = () => kitForTest({ url: url() });

  async function start(routes: Routes) {
    const kit = startKit();
    return { kit, browser: new Browser(await serveSessions(kit, {}, routes)) };
  }

  describe.each(APPS)('under %s', (_name, makeApp) => {
    it('a session is kept from request to request', async () => {
      const browser = new Browser(
        await serveSessions(
          startKit(),
          {},
          {
            '/view': (req, res) => {
              req.session.views = (req.session.views ?? 0) + 1;
              res.end(String(req.session.views));
            },
          },
          makeApp(),
        ),
      );
      for (const views of ['1', '2', '3']) expect((await browser.get('/view')).body).toBe(views);
    });

    it('a session change before a handler throws is saved', async () => {
      const app = makeApp();
      const routes: Routes = {
        '/throw': (req) => {
          req.session.note = 'before the throw';
          throw new Error('broken');
        },
        '/note': (req, res) => res.end(req.session.note),
      };
      const browser = new Browser(await serveSessions(startKit(), {}, routes, app));
      expect((await browser.get('/throw')).status).toBe(500);
      expect((await browser.get('/note')).body).toBe('before the throw');
      onError(app, (error, res) => res.end(error.message));
      expect((await browser.get('/throw')).body).toBe('broken');
    });

    it('a session is shared with a sub-app, even if the sub-app has session middleware', async () => {
      for (const hasOwn of [false, true]) {
        const kit = startKit();
        const [app, inner] = [makeApp(), makeApp()];
        app.use(kit.session({ secret: SECRET }));
        if (hasOwn) inner.use(kit.session({ secret: SECRET }));
        inner.use((req, res) => {
          const { session } = req as Request;
          session.views = (session.views ?? 0) + 1;
          res.end(String(session.views));
        });
        mount(app, '/inner', inner);
        const browser = new Browser(await serve(app));
        for (const views of ['1', '2', '3']) expect((await browser.get('/inner')).body).toBe(views);
      }
    });
  });

  it('the session of a streamed response is saved before the first bytes are sent', async () => {
    const gate = new Gate();
    const { browser } = await start({
      '/stream': async (req, res) => {
        req.session.note = 'saved';
        res.write('a');
        await gate.promise;
        res.end('b');
      },
    });
    await browser.get('/view');
    const stream = browser.begin('/stream');
    await once(stream.socket, 'data');
    expect(await browser.data()).toEqual({ views: 1, note: 'saved' });
    gate.open();
    expect((await stream.answer()).body).toBe('ab');
  });

  it.each([false, true])(
    'a session change after the first bytes of a response is saved, or reported if the session is new (known: %s)',
    async (isKnown) => {
      const { browser, kit } = await start({
        '/stream': async (req, res) => {
          if (req.headers['x-early'] === 'yes') req.session.views = 7;
          res.write('a');
          req.session.note = 'while it was saved';
          await roundTrip(browser.port);
          req.session.note += ', and later';
          res.end('b');
        },
      });
      const [errors, created] = [eventsOf(kit, 'error'), eventsOf(kit, 'session:created')];
      if (isKnown) await browser.get('/view');
      const answer = await browser.get('/stream', { headers: isKnown ? { 'X-Early': 'yes' } : {} });
      expect([answer.status, answer.body]).toEqual([200, 'ab']);
      expect(created).toHaveLength(1);
      if (isKnown) {
        expect(await browser.data()).toEqual({ views: 7, note: 'while it was saved, and later' });
        expect(errors).toEqual([]);
      } else {
        expect(answer.header('set-cookie')).toBeUndefined();
        expect(errors).toEqual([
          { feature: 'session', error: expect.objectContaining({ code: 'ERR_REDIS_KIT_LATE_SESSION' }) },
        ]);
      }
    },
  );

  it('a session change while the save before the first bytes runs is saved as well', async () => {
    const { browser } = await start({
      '/stream': (req, res) => {
        req.session.views = 7;
        res.write('a');
        req.session.note = 'meanwhile';
        res.once('drain', () => res.end()).write(Buffer.alloc(res.writableHighWaterMark));
      },
    });
    await browser.get('/view');
    await browser.get('/stream');
    expect(await browser.data()).toEqual({ views: 7, note: 'meanwhile' });
  });

  it('a HEAD request saves the session and sets the cookie', async () => {
    const { browser } = await start({});
    const answer = await browser.get('/login', { method: 'HEAD' });
    expect([answer.status, answer.rawBody]).toEqual([302, '']);
    expect(await browser.data()).toEqual({ userId: 'ann' });
  });

  it('a session is saved before flushHeaders() sends the response to HEAD, which the handler never ends', async () => {
    const { browser } = await start({
      '/events': (req, res) => {
        req.session.note = 'seen';
        res.flushHeaders();
      },
    });
    await browser.get('/view');
    const { socket } = browser.begin('/events', 'HEAD');
    await once(socket, 'data');
    expect(await browser.data()).toEqual({ views: 1, note: 'seen' });
    socket.destroy();
  });

  it('a response that begins with `writeHead` has the cookie', async () => {
    const { browser } = await start({
      '/head': (req, res) => {
        req.session.note = 'early';
        res.writeHead(201, { 'Set-Cookie': 'own=1' });
        req.session.views = 5;
        res.end('done');
      },
    });
    const answer = await browser.get('/head');
    expect([answer.status, answer.header('set-cookie')]).toEqual([
      201,
      expect.stringMatching(/^own=1, connect\.sid=/),
    ]);
    expect(await browser.data()).toEqual({ note: 'early', views: 5 });
  });

  it('the session of a request whose client has gone is saved when the handler ends', async () => {
    const inside = new Gate();
    const { browser } = await start({
      '/slow': async (req, res) => {
        inside.open();
        await once(res, 'close');
        req.session.note = 'after the client left';
        res.end('not received');
      },
    });
    await browser.get('/view');
    const slow = browser.begin('/slow');
    await inside.promise;
    slow.socket.destroy();
    await until('the change is saved', async () => {
      return JSON.stringify(await browser.data()).includes('after the client left');
    });
  });

  it.each(['outside', 'inside'])(
    'a response with a session is compressed by a compression() mounted %s kit.session',
    async (where) => {
      const app = express();
      const compress = compression({ threshold: 0 });
      if (where === 'outside') app.use(compress);
      app.use(startKit().session({ secret: SECRET }));
      if (where === 'inside') app.use(compress);
      const routes: Routes = {
        '/page': (req, res) => {
          req.session.views = (req.session.views ?? 0) + 1;
          res.type('text').send(`views: ${req.session.views} `.repeat(100));
        },
        '/pieces': (req, res) => {
          req.session.views = (req.session.views ?? 0) + 1;
          res.type('text');
          for (let piece = 0; piece < 100; piece++) res.write(`views: ${req.session.views} `);
          res.end();
        },
      };
      const browser = new Browser(await serve(withRoutes(app, routes)));
      for (const [index, path] of ['/page', '/page', '/pieces', '/pieces'].entries()) {
        const answer = await browser.get(path, { headers: { 'Accept-Encoding': 'gzip' } });
        expect(answer.header('content-encoding')).toBe('gzip');
        expect(gunzipSync(Buffer.from(answer.body, 'latin1')).toString()).toBe(
          `views: ${index + 1} `.repeat(100),
        );
      }
    },
  );

  it.each(['outside', 'inside'])(
    'a response has its session cookie with kit.lock mounted %s kit.session',
    async (where) => {
      const kit = startKit();
      const app = express();
      const lock = kit.lock({ key: () => 'one at a time' });
      if (where === 'outside') app.use(lock);
      app.use(kit.session({ secret: SECRET }));
      if (where === 'inside') app.use(lock);
      const browser = new Browser(await serve(withRoutes(app, {})));
      await browser.get('/login');
      for (const views of ['1', '2']) expect((await browser.get('/view')).body).toBe(views);
      expect(await browser.data()).toMatchObject({ userId: 'ann' });
    },
  );

  it('a session works with the compatibility API of HTTP/2', async () => {
    const session = startKit().session({ secret: SECRET });
    const server = createHttp2Server((req, res) => {
      session(req as never, res as never, () => {
        const { session: data } = req as unknown as Request;
        data.views = (data.views ?? 0) + 1;
        res.end(String(data.views));
      });
    });
    const client = connectHttp2(`http://127.0.0.1:${await listen(server)}`);
    onTestFinished(() => client.destroy());
    let cookie = '';
    for (const views of ['1', '2']) {
      const stream = client.request({ ':path': '/', cookie });
      const [headers] = await once(stream, 'response');
      cookie ||= String(headers['set-cookie']).split(';')[0] ?? '';
      const [body] = await once(stream, 'data');
      expect(String(body)).toBe(views);
    }
  });

  it('a callback of save(), destroy() or regenerate() that throws is called once and does not change the response', async () => {
    const thrown: unknown[] = [];
    process.setUncaughtExceptionCaptureCallback((error) => thrown.push(error));
    onTestFinished(() => process.setUncaughtExceptionCaptureCallback(null));
    const calls: string[] = [];
    const blow = (what: string) => () => {
      calls.push(what);
      throw new Error(what);
    };
    const { browser } = await start({
      '/blow': (req, res) => {
        req.session.note = 'kept';
        req.session.save(blow('save'));
        req.session.reload(blow('reload'));
        req.session.regenerate(blow('regenerate'));
        req.session.destroy(blow('destroy'));
        res.end('done');
      },
    });
    await browser.get('/view');
    await browser.get('/blow');
    await until('all callbacks have run', () => calls.length >= 4);
    await roundTrip(browser.port);
    expect(calls.sort()).toEqual(['destroy', 'regenerate', 'reload', 'save']);
    expect(thrown).toHaveLength(4);
  });
});
