import type { Request, Response } from 'express';
import express from 'express';
import passport from 'passport';
import { Strategy } from 'passport-local';
import { expect, it } from 'vitest';
import type { RedisKit, SessionOptions } from '../../src/index.ts';
import { serve } from '../http/exchange.ts';
import { EXPRESS } from '../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { Browser, SECRET } from './browser.ts';

declare global {
  namespace Express {
    interface User {
      readonly id: string;
    }
  }
}

type MakeApp = (typeof EXPRESS)[number][1];

/** The app of passport's documentation, with the line that the README documents. */
async function start(kit: RedisKit, makeApp: MakeApp = () => express(), options: SessionOptions = {}) {
  const auth = new passport.Passport();
  auth.use(new Strategy((name, password, done) => done(null, password === 'right' ? { id: name } : false)));
  auth.serializeUser((req: Request, user: Express.User, done: (error: unknown, id?: string) => void) => {
    req.session.userId = user.id;
    done(null, user.id);
  });
  auth.deserializeUser((id: string, done) => done(null, { id }));
  const app = makeApp();
  app.use(kit.session({ secret: SECRET, ...options }), auth.session());
  app.use(express.urlencoded({ extended: false }));
  app.post('/login', auth.authenticate('local'), (_req, res) => void res.end('in'));
  app.get('/as/:id', (req, res, next) => {
    const keepSessionInfo = req.query.keep !== undefined;
    const user = { id: String(req.params.id) };
    req.logIn(user, { session: true, keepSessionInfo }, (error: unknown) =>
      error ? next(error) : res.end('in'),
    );
  });
  app.get('/keep-as/:id', (req, res, next) => {
    const user = { id: String(req.params.id) };
    req.logIn(user, { session: true, keepSessionInfo: true }, (error: unknown) => {
      req.session.userId = user.id;
      if (error) next(error);
      else res.end('in');
    });
  });
  app.get('/kit/:id', async (req, res) => {
    await req.session.login(String(req.params.id));
    res.end('in');
  });
  app.get('/logout', (req, res, next) => req.logout((error) => (error ? next(error) : res.end('out'))));
  app.get('/cart', (req, res) => {
    req.session.note = 'a cart';
    res.end();
  });
  app.get('/me', (req, res) => {
    res.json([req.user?.id ?? null, req.session.userId ?? null, req.session.note ?? null]);
  });
  const onError = (error: Error & { status?: number }, _req: Request, res: Response, _next: unknown) =>
    res.status(error.status ?? 500).end(String((error as { code?: string }).code));
  app.use(onError);
  return serve(app);
}

async function me(browser: Browser): Promise<unknown> {
  return JSON.parse((await browser.get('/me')).body);
}

function logIn(browser: Browser, name: string) {
  const body = `username=${name}&password=right`;
  const headers = {
    'Content-Type': 'application/x-www-form-urlencoded',
    'Content-Length': String(body.length),
  };
  return browser.get('/login', { method: 'POST', body, headers });
}

describeOnBothEngines('passport', (url) => {
  it.each(EXPRESS)(
    'a user who logs in with passport is listed and revoked by kit.sessions (%s)',
    async (_, makeApp) => {
      const kit = kitForTest({ url: url() });
      const browser = new Browser(await start(kit, makeApp));
      await browser.get('/cart');
      const before = browser.sessionId;
      expect((await logIn(browser, 'ann')).body).toBe('in');
      expect(browser.sessionId).not.toBe(before);
      expect(await me(browser)).toEqual(['ann', 'ann', null]);
      expect(await kit.sessions.list('ann')).toMatchObject([{ ip: '127.0.0.1' }]);
      expect(await kit.sessions.revokeAll('ann')).toBe(1);
      expect(await me(browser)).toEqual([null, null, null]);
    },
  );

  it.each(EXPRESS)('a user who logs out with passport leaves kit.sessions (%s)', async (_, makeApp) => {
    const kit = kitForTest({ url: url() });
    const browser = new Browser(await start(kit, makeApp));
    await logIn(browser, 'ann');
    expect((await browser.get('/logout')).body).toBe('out');
    expect(await me(browser)).toEqual([null, null, null]);
    expect([await kit.sessions.list('ann'), await kit.sessions.revokeAll('ann')]).toEqual([[], 0]);
  });

  it.each(EXPRESS)('a login with passport’s keepSessionInfo is in kit.sessions (%s)', async (_, makeApp) => {
    const kit = kitForTest({ url: url() });
    const browser = new Browser(await start(kit, makeApp));
    await browser.get('/kit/ann');
    await browser.get('/cart');
    await browser.get('/as/ann?keep');
    expect(await me(browser)).toEqual(['ann', 'ann', 'a cart']);
    expect(await kit.sessions.list('ann')).toHaveLength(1);
    expect(await kit.sessions.revokeAll('ann')).toBe(1);
    expect(await me(browser)).toEqual([null, null, null]);
  });

  it('a session whose data passport’s keepSessionInfo keeps moves to the list of the new user', async () => {
    const kit = kitForTest({ url: url() });
    const browser = new Browser(await start(kit));
    await browser.get('/kit/ann');
    await browser.get('/keep-as/bob');
    expect(await me(browser)).toEqual(['bob', 'bob', null]);
    expect([await kit.sessions.count('ann'), await kit.sessions.count('bob')]).toEqual([0, 1]);
    expect([await kit.sessions.revokeAll('ann'), await kit.sessions.revokeAll('bob')]).toEqual([0, 1]);
  });

  it('a login with passport above `maxPerUser` is answered with 409', async () => {
    const kit = kitForTest({ url: url() });
    const port = await start(kit, undefined, { maxPerUser: { limit: 1, onExceed: 'reject' } });
    const [first, second] = [new Browser(port), new Browser(port)];
    await logIn(first, 'ann');
    const answer = await logIn(second, 'ann');
    expect([answer.status, answer.body]).toEqual([409, 'ERR_REDIS_KIT_SESSION_LIMIT']);
    expect(await me(second)).toEqual([null, null, null]);
    expect([await me(first), await kit.sessions.count()]).toEqual([['ann', 'ann', null], 1]);
  });

  it('a login with passport above `maxPerUser` revokes the oldest session with `evict-oldest`', async () => {
    const kit = kitForTest({ url: url() });
    const port = await start(kit, undefined, { maxPerUser: { limit: 1, onExceed: 'evict-oldest' } });
    const [first, second] = [new Browser(port), new Browser(port)];
    await logIn(first, 'ann');
    await logIn(second, 'ann');
    expect([await me(first), await me(second)]).toEqual([
      [null, null, null],
      ['ann', 'ann', null],
    ]);
  });
});
