import { once } from 'node:events';
import { createServer } from 'node:https';
import { connect as connectTls } from 'node:tls';
import { promisify } from 'node:util';
import makeConnect from 'connect';
import express, { type Request } from 'express';
import { expect, it } from 'vitest';
import type { SessionOptions } from '../../src/index.ts';
import { Answer, listen, serve } from '../http/exchange.ts';
import { onError } from '../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../support/kits.ts';
import { Browser, SECRET, serveSessions, withRoutes } from './browser.ts';

describeOnBothEngines('the session cookie', (url) => {
  it('a function as the option `cookie` gets the same defaults and checks as an object', async () => {
    const cookie = (req: Request) => (req.get('x-app') === 'yes' ? { maxAge: 60_000, path: '/' } : {});
    const errors: unknown[] = [];
    const app = express().set('env', 'test');
    const port = await serveSessions(kitForTest({ url: url() }), { cookie }, {}, app);
    const plain = (await new Browser(port).get('/login')).header('set-cookie');
    expect(plain).toMatch(/^connect\.sid=[^;]+; Path=\/; HttpOnly; SameSite=Lax$/);
    const inApp = await new Browser(port).get('/login', { headers: { 'X-App': 'yes' } });
    expect(inApp.header('set-cookie')).toMatch(/; Path=\/; Expires=[^;]+; HttpOnly; SameSite=Lax$/);
    const wrong = express().use(
      kitForTest({ url: url() }).session({ secret: SECRET, cookie: () => ({ maxAge: -1 }) }),
      (error: unknown, _req: unknown, res: express.Response, _next: unknown) => {
        errors.push(error);
        res.status(500).end();
      },
    );
    expect((await new Browser(await serve(wrong)).get('/')).status).toBe(500);
    expect(errors[0]).toMatchObject({ code: 'ERR_REDIS_KIT_CONFIG' });
  });

  it("a cookie with `sameSite: 'auto'` is 'none' over TLS and 'lax' otherwise", async () => {
    for (const options of [{ sameSite: 'auto' }, () => ({ sameSite: 'auto' as const })] as const) {
      for (const [proto, sameSite] of [
        ['http', 'Lax'],
        ['https', 'None'],
      ] as const) {
        const port = await serveSessions(kitForTest({ url: url() }), { cookie: options, proxy: true });
        const answer = await new Browser(port).get('/login', { headers: { 'X-Forwarded-Proto': proto } });
        expect(answer.header('set-cookie')).toMatch(new RegExp(`; SameSite=${sameSite}$`));
      }
    }
  });

  it('a call of `destroy` clears the cookie of an ended session, and sets no cookie for a client without one', async () => {
    const kit = kitForTest({ url: url() });
    const browser = new Browser(await serveSessions(kit));
    await browser.get('/login');
    await promisify(kit.sessionStore().clear.bind(kit.sessionStore()))();
    expect(browser.cookies.size).toBe(1);
    await browser.get('/logout');
    expect(browser.cookies.size).toBe(0);
    expect((await new Browser(browser.port).get('/logout')).header('set-cookie')).toBeUndefined();
  });

  const cookieOf = async (options: SessionOptions, headers = {}, app = express()) => {
    const port = await serveSessions(kitForTest({ url: url() }), options, {}, app);
    return (await new Browser(port).get('/view', { headers })).header('set-cookie');
  };

  it('a cookie is HttpOnly, SameSite=Lax and without an expiry by default', async () => {
    expect(await cookieOf({})).toMatch(/^connect\.sid=s%3A[^;]+; Path=\/; HttpOnly; SameSite=Lax$/);
  });

  it('a cookie has the attributes of the options', async () => {
    const cookie = {
      path: '/view',
      domain: 'example.com',
      sameSite: 'strict',
      httpOnly: false,
      priority: 'high',
    } as const;
    expect(await cookieOf({ name: 'id', cookie })).toMatch(
      /^id=s%3A[^;]+; Domain=example.com; Path=\/view; Priority=High; SameSite=Strict$/,
    );
  });

  it('a cookie is Secure behind a proxy only if the proxy is trusted and reports HTTPS', async () => {
    const https = { 'X-Forwarded-Proto': 'https' };
    const trusting = () => express().set('trust proxy', 1);
    expect(await cookieOf({}, https, trusting())).toContain('; Secure');
    expect(await cookieOf({}, {}, trusting())).not.toContain('; Secure');
    expect(await cookieOf({}, https)).not.toContain('; Secure');
    expect(await cookieOf({ proxy: true }, https)).toContain('; Secure');
    expect(await cookieOf({ proxy: false }, https, trusting())).not.toContain('; Secure');
  });

  it('a cookie with `secure: true` is not sent over plain HTTP', async () => {
    expect(await cookieOf({ cookie: { secure: true } })).toBeUndefined();
    expect(
      await cookieOf(
        { cookie: { secure: true }, proxy: true, name: '__Host-sid' },
        { 'X-Forwarded-Proto': 'https' },
      ),
    ).toMatch(/^__Host-sid=[^;]+; Path=\/; HttpOnly; Secure; SameSite=Lax$/);
  });

  it('a cookie is Secure over TLS in Express and in Connect', async () => {
    for (const app of [express(), makeConnect()]) {
      app.use(kitForTest({ url: url() }).session({ secret: SECRET }));
      const psk = Buffer.from('a key that both sides have, which saves the certificate');
      const server = createServer(
        { ciphers: 'PSK', maxVersion: 'TLSv1.2', pskCallback: () => psk },
        withRoutes(app, {}),
      );
      const port = await listen(server);
      const socket = connectTls({
        port,
        ciphers: 'PSK',
        maxVersion: 'TLSv1.2',
        pskCallback: () => ({ psk, identity: 'test' }),
        checkServerIdentity: () => undefined,
      });
      let text = '';
      socket.on('data', (chunk) => {
        text += chunk.toString();
      });
      socket.write('GET /view HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
      await once(socket, 'close');
      expect(new Answer(text).header('set-cookie')).toContain('; Secure');
    }
  });

  it('a cookie has an expiry only with `maxAge` in the options or `remember` at a login', async () => {
    expect(await cookieOf({ cookie: { maxAge: 60_000 } })).toMatch(/; Expires=[^;]+/);
    const port = await serveSessions(
      kitForTest({ url: url() }),
      {},
      {
        '/remember': (req, res) => {
          req.session.userId = 'ann';
          req.session.cookie.maxAge = 86_400_000;
          res.end();
        },
      },
    );
    const browser = new Browser(port);
    const expires = /; Expires=([^;]+)/.exec(
      (await browser.get('/remember')).header('set-cookie') ?? '',
    )?.[1];
    expect(Date.parse(expires ?? '') - Date.now()).toBeGreaterThan(86_000_000);
    expect(await browser.data()).toEqual({ userId: 'ann' });
  });

  it('a cookie is sent when the session begins, and with later responses only if `rolling` is true', async () => {
    for (const rolling of [false, true]) {
      const browser = new Browser(await serveSessions(kitForTest({ url: url() }), { rolling }));
      expect((await browser.get('/view')).header('set-cookie')).toBeDefined();
      for (const path of ['/', '/view']) {
        expect((await browser.get(path)).header('set-cookie') !== undefined).toBe(rolling);
      }
    }
  });

  it('users stay logged in while the secret is changed', async () => {
    const kit = kitForTest({ url: url() });
    const [old, both, fresh] = [
      await serveSessions(kit, { secret: 'an old secret' }),
      await serveSessions(kit, { secret: ['a new secret', 'an old secret'] }),
      await serveSessions(kit, { secret: 'a new secret' }),
    ];
    const withOld = new Browser(old);
    await withOld.get('/view');
    expect(await visit(both, withOld)).toEqual({ views: 1 });
    expect(await visit(fresh, withOld)).toEqual({});
    const withNew = new Browser(both);
    await withNew.get('/view');
    expect(await visit(fresh, withNew)).toEqual({ views: 1 });
    expect(await visit(old, withNew)).toEqual({});
  });

  it.each<readonly [string, (cookie: string, id: string) => string]>([
    ['without its signature', (_, id) => id],
    ['with the prefix `s:` but no signature', (_, id) => `s:${id}`],
    ['with a wrong signature', (cookie) => `${cookie.slice(0, -3)}abc`],
    ['with another id under the same signature', (cookie, id) => cookie.replace(id.slice(0, 5), 'aaaaa')],
    ['that is empty', () => ''],
  ])('a cookie %s loads no session', async (_name, forge) => {
    const kit = kitForTest({ url: url() });
    const port = await serveSessions(kit);
    const browser = new Browser(port);
    await browser.get('/view');
    const thief = new Browser(port);
    thief.cookies.set('connect.sid', forge(browser.cookies.get('connect.sid') ?? '', browser.sessionId));
    expect(await thief.data()).toEqual({});
    await thief.get('/view');
    expect(thief.sessionId).not.toBe(browser.sessionId);
    expect(await browser.data()).toEqual({ views: 1 });
  });

  it('a new session never gets the id in a cookie whose session is not in the store', async () => {
    const kit = kitForTest({ url: url() });
    const created = eventsOf(kit, 'session:created');
    const browser = new Browser(await serveSessions(kit));
    await browser.get('/view');
    await browser.get('/logout');
    const dead = browser.sessionId;
    expect((await browser.get('/view')).body).toBe('1');
    expect(browser.sessionId).not.toBe(dead);
    expect(created).toHaveLength(2);
  });

  it('a cookie that cannot be written is reported, and the response is sent without it', async () => {
    const kit = kitForTest({ url: url() });
    const errors = eventsOf(kit, 'error');
    let handled = 0;
    const app = express();
    const port = await serveSessions(
      kit,
      {},
      {
        '/odd': (req, res) => {
          req.session.note = 'kept';
          req.session.cookie.domain = 'no host name';
          res.end('done');
        },
      },
      app,
    );
    onError(app, () => handled++);
    const answer = await new Browser(port).get('/odd');
    expect([answer.body, answer.header('set-cookie')]).toEqual(['done', undefined]);
    expect(String(errors[0]?.error)).toContain('option domain is invalid');
    expect(handled).toBe(0);
  });
});

async function visit(port: number, { cookies }: Browser): Promise<unknown> {
  const browser = new Browser(port);
  for (const [name, value] of cookies) browser.cookies.set(name, value);
  return browser.data();
}
