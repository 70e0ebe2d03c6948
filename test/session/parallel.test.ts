import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { SessionOptions } from '../../src/index.ts';
import { SessionContent } from '../../src/session/content.ts';
import { changesOf, entriesOf, withChanges } from '../../src/session/merge.ts';
import { Gate } from '../http/exchange.ts';
import { eventsOf } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { Browser, heldRoute, type Routes, serveSessions } from './browser.ts';

onEveryStore('parallel requests of one session', (kitOf) => {
  async function start(routes: Routes, options: SessionOptions = {}) {
    const kit = kitOf();
    const browser = new Browser(await serveSessions(kit, options, routes));
    await browser.get('/view');
    return { kit, browser };
  }

  /** Sends two requests that both load the session before one of them saves it. */
  async function race(first: Routes[string], second: Routes[string], options: SessionOptions = {}) {
    const gates = [new Gate(), new Gate()] as const;
    const inside = [new Gate(), new Gate()] as const;
    const held =
      (at: 0 | 1, route: Routes[string]): Routes[string] =>
      async (req, res) => {
        inside[at].open();
        await gates[at].promise;
        await route(req, res);
        res.end();
      };
    const { browser } = await start({ '/first': held(0, first), '/second': held(1, second) }, options);
    const [one, two] = [browser.begin('/first'), browser.begin('/second')];
    await Promise.all(inside.map((gate) => gate.promise));
    gates[0].open();
    await one.answer();
    gates[1].open();
    await two.answer();
    return browser.data();
  }

  it('the changes of two parallel requests to different fields are both saved', async () => {
    const data = await race(
      (req) => Object.assign(req.session, { cart: [1], empty: [], large: 9_007_199_254_740_991 }),
      (req) => Object.assign(req.session, { theme: 'dark' }),
    );
    expect(data).toEqual({ views: 1, cart: [1], empty: [], large: 9_007_199_254_740_991, theme: 'dark' });
  });

  it('the changes of a request that deletes a field and of one that sets another field are both saved', async () => {
    const data = await race(
      (req) => void delete req.session.views,
      (req) => Object.assign(req.session, { theme: 'dark' }),
    );
    expect(data).toEqual({ theme: 'dark' });
  });

  it('the last of two parallel requests that set the same field replaces the whole value', async () => {
    const data = await race(
      (req) => Object.assign(req.session, { cart: { a: 1 } }),
      (req) => Object.assign(req.session, { cart: { b: 2 } }),
    );
    expect(data).toEqual({ views: 1, cart: { b: 2 } });
  });

  it('the last of two parallel requests replaces the whole session with `conflicts: "last-write"`', async () => {
    const data = await race(
      (req) => Object.assign(req.session, { cart: [1] }),
      (req) => Object.assign(req.session, { theme: 'dark' }),
      { conflicts: 'last-write' },
    );
    expect(data).toEqual({ views: 1, theme: 'dark' });
  });

  it('a second save in a request keeps the changes that the first save has merged', async () => {
    const data = await race(
      (req) => Object.assign(req.session, { cart: [1] }),
      async (req) => {
        Object.assign(req.session, { theme: 'dark' });
        await req.session.save();
        Object.assign(req.session, { note: 'more' });
      },
    );
    expect(data).toEqual({ views: 1, cart: [1], theme: 'dark', note: 'more' });
  });

  it('each of twenty parallel requests keeps the field that it sets', async () => {
    const paths = Array.from({ length: 20 }, (_, index) => `/set${index}`);
    let waiting = paths.length;
    const all = new Gate();
    const routes = paths.map((path) => [
      path,
      (async (req, res) => {
        if (--waiting === 0) all.open();
        await all.promise;
        Object.assign(req.session, { [path]: true });
        res.end();
      }) satisfies Routes[string],
    ]);
    const { browser } = await start(Object.fromEntries(routes));
    await Promise.all(paths.map((path) => browser.begin(path).answer()));
    expect(await browser.data()).toEqual({
      views: 1,
      ...Object.fromEntries(paths.map((path) => [path, true])),
    });
  });

  it('each of 1,000 parallel requests keeps the field that it sets, and none fails', async () => {
    const numbers = Array.from({ length: 1_000 }, (_, n) => n);
    let waiting = numbers.length;
    const all = new Gate();
    const { browser } = await start({
      '/set': async (req, res) => {
        if (--waiting === 0) all.open();
        await all.promise;
        Object.assign(req.session, { [`k${req.url.split('?')[1]}`]: true });
        res.end();
      },
    });
    const answers = await Promise.all(numbers.map((n) => browser.begin(`/set?${n}`).answer()));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(await browser.data()).toEqual({
      views: 1,
      ...Object.fromEntries(numbers.map((n) => [`k${n}`, true])),
    });
  });

  it('a save of a session that has ended emits `session:conflict`, stores no session and sets no cookie', async () => {
    const held = heldRoute((req, res) => {
      Object.assign(req.session, { note: 'late' });
      res.end();
    });
    const { kit, browser } = await start(
      {
        '/slow': held.route,
      },
      { rolling: true },
    );
    const conflicts = eventsOf(kit, 'session:conflict');
    const slow = browser.begin('/slow');
    await held.entered;
    const cookie = browser.cookies.get('connect.sid') ?? '';
    await browser.get('/logout');
    held.release();
    const answer = await slow.answer();
    expect([answer.status, answer.header('set-cookie')]).toEqual([200, undefined]);
    expect(conflicts).toEqual([{ handle: expect.any(String) }]);
    browser.cookies.set('connect.sid', cookie);
    expect(await browser.data()).toEqual({});
  });
});

it('the changes of a request are the keys whose JSON it has changed, and leave the other keys of a session', () => {
  const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom([], {}, 1e300, -0, '', null));
  const key = fc.constantFrom('a', 'b', 'c', 'toString', '__proto__', '1', 'cookie ');
  const content = fc
    .uniqueArray(fc.tuple(key, value), { selector: ([name]) => name, maxLength: 6 })
    .map((entries) => Object.fromEntries(entries));
  const textsOf = (data: object) =>
    new Map(Object.entries(data).map(([name, each]) => [name, JSON.stringify(each)]));
  const contentOf = (data: object) => SessionContent.of(data);
  const meta = { cookie: {} };
  fc.assert(
    fc.property(content, content, content, (base, mine, theirs) => {
      const [before, own, others] = [textsOf(base), textsOf(mine), textsOf(theirs)];
      const changes = changesOf({ meta, content: contentOf(base) }, { meta, content: contentOf(mine) });
      const merged = withChanges(entriesOf({ meta, content: contentOf(theirs) }), changes).content;
      for (const name of new Set([...before.keys(), ...own.keys(), ...others.keys()])) {
        const expected = own.get(name) === before.get(name) ? others.get(name) : own.get(name);
        expect(merged.get(name)).toBe(expected);
      }
    }),
    { numRuns: 1_000 },
  );
});
