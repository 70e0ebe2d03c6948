import { createHmac } from 'node:crypto';
import { expect, it } from 'vitest';
import type { KitOptions, RedisKit, SessionOptions } from '../../src/index.ts';
import { EXPRESS } from '../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../support/kits.ts';
import { keepingLogger } from '../support/stores.ts';
import { Browser, type Routes, SECRET, serveSessions } from './browser.ts';

const HOUR = 3_600_000;

/** Routes that begin a session. */
const BEGINNINGS: Routes = {
  '/write': (req, res) => {
    req.session.note = 'new';
    res.end('done');
  },
  '/save': async (req, res) => {
    req.session.note = 'new';
    await req.session.save();
    res.end('done');
  },
  '/in': async (req, res) => {
    await req.session.login('ann');
    res.end(String(req.session.userId));
  },
  '/again': async (req, res) => {
    await req.session.regenerate();
    req.session.note = 'new';
    res.end('done');
  },
};

const ROUTES: Routes = {
  ...BEGINNINGS,
  '/longer': (req, res) => {
    req.session.cookie.maxAge = HOUR;
    res.end();
  },
  '/longer-and-save': async (req, res) => {
    req.session.cookie.maxAge = HOUR;
    await req.session.save();
    res.end();
  },
  '/longer-and-hasty': (req, res) => {
    req.session.cookie.maxAge = HOUR;
    req.session.save();
    res.end();
  },
  '/longer-and-write': (req, res) => {
    req.session.cookie.maxAge = HOUR;
    req.session.note = 'new';
    res.end();
  },
  '/until-closed': (req, res) => {
    Object.assign(req.session.cookie, { maxAge: null });
    res.end();
  },
  '/until-closed-and-write': (req, res) => {
    Object.assign(req.session.cookie, { maxAge: null });
    req.session.note = 'new';
    res.end();
  },
};

describeOnBothEngines('a session cookie that clients may lose', (url) => {
  async function start(options: SessionOptions = {}, makeApp = EXPRESS[0]?.[1], set?: [string, unknown]) {
    const logger = keepingLogger();
    const kit = kitForTest({ url: url(), logger } as KitOptions);
    // The requests of some tests send no command, and a scan does not wait for the first connection.
    await kit.ready();
    const app = makeApp?.();
    if (set !== undefined) app?.set(...set);
    const browser = new Browser(await serveSessions(kit, options, ROUTES, app));
    const warnings = () => logger.lines.filter((line) => /trust proxy/.test(line));
    return { kit, browser, warnings };
  }

  it.each(
    Object.keys(BEGINNINGS).flatMap((path) => EXPRESS.map(([name, make]) => [path, name, make] as const)),
  )(
    'a session with `secure: true` over plain HTTP is not stored, with one warning (%s, %s)',
    async (path, _, make) => {
      const { kit, browser, warnings } = await start({ cookie: { secure: true } }, make);
      for (let times = 0; times < 3; times++) {
        const answer = await browser.get(path, { headers: { 'X-Forwarded-Proto': 'https' } });
        expect([answer.status, answer.header('set-cookie')]).toEqual([200, undefined]);
      }
      expect(await kit.sessions.count()).toBe(0);
      expect(warnings()).toHaveLength(1);
      expect(warnings()[0]).toMatch(/`secure: true`.*app\.set\('trust proxy', 1\).*`proxy: true`/);
    },
  );

  it.each<[string, SessionOptions, [string, unknown] | undefined]>([
    ['the setting `trust proxy`', {}, ['trust proxy', 1]],
    ['the option `proxy`', { proxy: true }, undefined],
  ])(
    'a cookie with `secure: true` is sent without a warning if %s trusts the proxy',
    async (_, options, set) => {
      const { kit, browser, warnings } = await start(
        { cookie: { secure: true }, ...options },
        undefined,
        set,
      );
      const answer = await browser.get('/in', { headers: { 'X-Forwarded-Proto': 'https' } });
      expect(answer.header('set-cookie')).toMatch(/; Secure/);
      expect([await kit.sessions.count(), warnings()]).toEqual([1, []]);
    },
  );

  it.each<[string, SessionOptions['cookie']]>([
    ["sameSite: 'none'", { sameSite: 'none' }],
    ['partitioned: true', { partitioned: true }],
  ])(
    'a cookie with `%s` over plain HTTP is sent, with one warning that browsers drop it',
    async (name, cookie) => {
      const { kit, browser, warnings } = await start({ cookie });
      for (let times = 0; times < 2; times++) {
        expect((await new Browser(browser.port).get('/in')).header('set-cookie')).toMatch(/^connect\.sid=s/);
      }
      expect(await kit.sessions.count()).toBe(2);
      expect(warnings()).toHaveLength(1);
      expect(warnings()[0]).toContain(name);
    },
  );

  it.each(['/longer', '/longer-and-save', '/longer-and-hasty', '/longer-and-write'])(
    'a cookie with a new `maxAge` is sent once in the response, with or without a change of data (%s)',
    async (path) => {
      const { browser } = await start();
      await browser.get('/view');
      const answer = await browser.get(path);
      const lines = answer.headers.filter(([name]) => name.toLowerCase() === 'set-cookie');
      expect(lines).toHaveLength(1);
      expect(lines[0]?.[1]).toMatch(/; Expires=.* GMT; HttpOnly; SameSite=Lax$/);
      expect(await browser.data()).toMatchObject({ views: 1 });
      expect((await browser.get('/')).header('set-cookie')).toBeUndefined();
    },
  );

  it.each(['/until-closed', '/until-closed-and-write'])(
    'a cookie whose `maxAge` the handler has removed is sent again (%s)',
    async (path) => {
      const { browser } = await start({ cookie: { maxAge: '1h' } });
      await browser.get('/view');
      expect((await browser.get(path)).header('set-cookie')).toMatch(/; Path=\/; HttpOnly; SameSite=Lax$/);
      expect(await browser.data()).toMatchObject({ views: 1 });
    },
  );

  it('a rolling cookie with a new `maxAge` is sent once in the response', async () => {
    const { browser } = await start({ rolling: true });
    await browser.get('/view');
    const answer = await browser.get('/longer');
    expect(answer.headers.filter(([name]) => name.toLowerCase() === 'set-cookie')).toHaveLength(1);
  });
});

/** A cookie with the signature of express-session. */
function signed(id: string, secret = SECRET): string {
  const signature = createHmac('sha256', secret).update(id).digest('base64').replace(/=+$/, '');
  return encodeURIComponent(`s:${id}.${signature}`);
}

describeOnBothEngines('several session cookies in one request', (url) => {
  async function start(kit: RedisKit = kitForTest({ url: url() }), options: SessionOptions = {}) {
    const port = await serveSessions(kit, options, ROUTES);
    const [older, newer] = [new Browser(port), new Browser(port)];
    await older.get('/view');
    const before = Date.now();
    while (Date.now() <= before + 1) await older.get('/view');
    await newer.get('/in');
    const [one = '', other = ''] = [older, newer].map(({ cookies }) => cookies.get('connect.sid'));
    const dataWith = async (...values: string[]) => {
      const headers = { Cookie: values.map((value) => `connect.sid=${value}`).join('; ') };
      return JSON.parse((await new Browser(port).get('/', { headers })).body);
    };
    return { kit, port, older: one, newer: other, dataWith };
  }

  it.each([
    ['one whose session has ended', signed('ended')],
    ['one with a wrong signature', signed('x', 'another secret')],
    ['an unsigned one', 'plain'],
    ['an empty one', ''],
    ['one that cannot be decoded', '%E0%A4%A'],
  ])('the cookie of the live session is used before or after %s', async (_, dead) => {
    const { newer, dataWith } = await start();
    expect(await dataWith(dead, newer)).toEqual({ userId: 'ann' });
    expect(await dataWith(newer, dead)).toEqual({ userId: 'ann' });
    expect(await dataWith(dead, dead, newer, dead)).toEqual({ userId: 'ann' });
    expect(await dataWith(dead, dead)).toEqual({});
  });

  it('the session that was created last is loaded when several cookies have live sessions', async () => {
    const { older, newer, dataWith } = await start();
    expect(await dataWith(older, newer)).toEqual({ userId: 'ann' });
    expect(await dataWith(newer, older)).toEqual({ userId: 'ann' });
  });

  it('a session cookie that is signed with an earlier secret is loaded among several cookies', async () => {
    const kit = kitForTest({ url: url() });
    const { older, newer } = await start(kit);
    const secret = ['a newer secret of the tests', SECRET];
    const port = await serveSessions(kit, { secret }, ROUTES);
    const headers = { Cookie: `connect.sid=${older}; connect.sid=${newer}` };
    expect(JSON.parse((await new Browser(port).get('/', { headers })).body)).toEqual({ userId: 'ann' });
  });

  it('a login is effective even if the client keeps the cookie of an ended session', async () => {
    const { port } = await start();
    const browser = new Browser(port);
    const dead = `connect.sid=${signed('ended')}`;
    await browser.get('/in', { headers: { Cookie: dead } });
    const headers = { Cookie: `${dead}; connect.sid=${browser.cookies.get('connect.sid')}` };
    expect(JSON.parse((await browser.get('/', { headers })).body)).toEqual({ userId: 'ann' });
  });

  it('a request with 41 session cookies loads at most 8 sessions', async () => {
    const { kit, newer, dataWith } = await start();
    const loaded = eventsOf(kit, 'session:loaded');
    const others = Array.from({ length: 40 }, (_, index) => signed(`ended-${index}`));
    expect(await dataWith(newer, ...others)).toEqual({ userId: 'ann' });
    expect(loaded).toHaveLength(1);
    expect(await dataWith(...others, newer)).toEqual({});
  });
});

it('an error of the option `cookie` is passed to `next` even if the client sends several cookies', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const port = await serveSessions(kit, { cookie: () => ({ path: 'x' }) });
  const headers = { Cookie: `connect.sid=${signed('a')}; connect.sid=${signed('b')}` };
  const answer = await new Browser(port).get('/', { headers });
  expect([answer.status, answer.body.includes('option `path`')]).toEqual([500, true]);
});
