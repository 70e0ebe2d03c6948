import type { Request } from 'express';
import { expect, it } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { EXPRESS } from '../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { Browser, serveSessions } from './browser.ts';

/** Ways in which a request of an administrator ends or changes the session of an id. */
const WAYS: Readonly<Record<string, (req: Request, id: string) => Promise<void>>> = {
  'sessionStore.destroy': (req, id) => called((done) => req.sessionStore.destroy(id, done)),
  'sessionStore.get and destroy': async (req, id) => {
    await called((done) => req.sessionStore.get(id, done));
    await called((done) => req.sessionStore.destroy(id, done));
  },
  'sessionStore.load and session.destroy': async (req, id) => {
    await new Promise<void>((resolve, reject) => {
      req.sessionStore.load(id, (error, session) => {
        if (error) reject(error);
        else if (session === undefined) resolve();
        else (session as Request['session']).destroy().then(resolve, reject);
      });
    });
  },
};

function called(call: (done: (error?: unknown) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    call((error) => (error ? reject(error) : resolve()));
  });
}

describeOnBothEngines('the end of another client’s session', (url) => {
  async function start(kit: RedisKit, app: Parameters<typeof serveSessions>[3], end: (typeof WAYS)[string]) {
    const port = await serveSessions(
      kit,
      {},
      {
        '/end': async (req, res) => {
          await end(req, String(new URL(req.url, 'http://localhost').searchParams.get('id')));
          res.end('ended');
        },
      },
      app,
    );
    const [admin, other] = [new Browser(port), new Browser(port)];
    for (const browser of [admin, other]) await browser.get('/view');
    return { admin, other };
  }

  it.each(
    Object.entries(WAYS).flatMap(([way, end]) =>
      EXPRESS.map(([app, make]) => [way, app, make, end] as const),
    ),
  )('the end of another session by %s keeps the caller’s session (%s)', async (_, _app, make, end) => {
    const { admin, other } = await start(kitForTest({ url: url() }), make(), end);
    const answer = await admin.get(`/end?id=${other.sessionId}`);
    expect([answer.body, answer.header('set-cookie')]).toEqual(['ended', undefined]);
    expect([await admin.data(), await other.data()]).toEqual([{ views: 1 }, {}]);
    const unknown = await admin.get('/end?id=unknown');
    expect([unknown.body, unknown.header('set-cookie')]).toEqual(['ended', undefined]);
    expect(await admin.data()).toEqual({ views: 1 });
  });

  it.each(Object.entries(WAYS))(
    'the end of the caller’s own session by %s clears the cookie',
    async (_, end) => {
      const { admin } = await start(kitForTest({ url: url() }), undefined, end);
      await admin.get(`/end?id=${admin.sessionId}`);
      expect(admin.cookies.size).toBe(0);
    },
  );
});

it('a session that a handler loads by its id is saved under that id', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const port = await serveSessions(
    kit,
    {},
    {
      '/note': (req, res) => {
        const id = String(new URL(req.url, 'http://localhost').searchParams.get('id'));
        req.sessionStore.load(id, async (_error, data) => {
          const session = data as Request['session'];
          session.note = 'from the administrator';
          await session.save();
          res.end();
        });
      },
    },
  );
  const [admin, other] = [new Browser(port), new Browser(port)];
  for (const browser of [admin, other]) await browser.get('/view');
  await admin.get(`/note?id=${other.sessionId}`);
  expect(await other.data()).toEqual({ views: 1, note: 'from the administrator' });
  expect(await admin.data()).toEqual({ views: 1 });
});
