import type { IncomingMessage } from 'node:http';
import cookieParser from 'cookie-parser';
import cookieSession from 'cookie-session';
import type { RequestHandler } from 'express';
import morgan from 'morgan';
import passport from 'passport';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { APPS, type App, EXPRESS } from '../../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

const USERS = ['ann', 'bob'];

describeOnBothEngines('kit.cache and reads of identities', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  /** The responses that each user, and then a client without credentials, gets. */
  async function served(
    makeApp: () => App,
    below: readonly RequestHandler[],
    options: CacheOptions = {},
    above: readonly RequestHandler[] = [],
  ) {
    const kit = kitForTest({ url: url() });
    const skipped = eventsOf(kit, 'cache:skipped');
    const app = makeApp();
    let runs = 0;
    for (const middleware of above) Reflect.apply(app.use, app, [middleware]);
    app.use(kit.cache({ ttl: '1m', ...options }));
    app.use((_req, _res, next) => {
      runs++;
      next();
    });
    for (const middleware of below) Reflect.apply(app.use, app, [middleware]);
    const address = await serve(app);
    const texts: string[] = [];
    for (const user of USERS) {
      const headers = { Cookie: `jwt=${user}; lang=de`, 'X-User': user };
      texts.push((await send(address, { headers })).text);
    }
    texts.push((await send(address)).text);
    return { texts, runs, reasons: [...new Set(skipped.map(({ reason }) => reason))] };
  }

  const userOf = (req: IncomingMessage): unknown => req.headers['x-user'];

  /** Ways in which middleware below the cache sets an identity on the request. */
  const WAYS: readonly (readonly [name: string, put: (req: object, user: unknown) => void])[] = [
    ['an assignment', (req, user) => void Object.assign(req, { user })],
    ['a getter', (req, user) => void Object.defineProperty(req, 'user', { get: () => user })],
    ['defineProperty', (req, user) => void Object.defineProperty(req, 'user', { value: user })],
    [
      'a prototype',
      (req, user) =>
        void Object.setPrototypeOf(
          req,
          Object.create(Object.getPrototypeOf(req) as object, { user: { get: () => user } }) as object,
        ),
    ],
  ];

  describe.each(APPS)('on %s', (_, makeApp) => {
    it.each(WAYS)(
      'a response is not stored when its handler read req.user, which middleware set by %s',
      async (_name, put) => {
        const { texts, reasons } = await served(makeApp, [
          (req, _res, next) => {
            put(req, userOf(req));
            next();
          },
          (req, res) => void res.end(`for ${String(Reflect.get(req, 'user'))}`),
        ]);
        expect(texts).toEqual(['for ann', 'for bob', 'for undefined']);
        expect(reasons).toEqual(['session-read']);
      },
    );

    it('a response is not stored when its handler read a user on the prototype of all requests', async () => {
      const { texts, reasons } = await served(
        makeApp,
        [(req, res) => void res.end(`for ${String(Reflect.get(req, 'user'))}`)],
        {},
        [
          (req, _res, next) => {
            const prototype = Object.create(Object.getPrototypeOf(req) as object) as object;
            Object.defineProperty(prototype, 'user', {
              get(this: IncomingMessage) {
                return userOf(this);
              },
            });
            Object.setPrototypeOf(req, prototype);
            next();
          },
        ],
      );
      expect([texts, reasons]).toEqual([['for ann', 'for bob', 'for undefined'], ['session-read']]);
    });

    it.each([
      ['the Cookie field', (req: IncomingMessage) => req.headers.cookie],
      ['the raw fields', (req: IncomingMessage) => req.rawHeaders.join()],
      ['the distinct fields', (req: IncomingMessage) => req.headersDistinct.cookie?.join()],
      ['a copy of all fields', (req: IncomingMessage) => ({ ...req.headers }).cookie],
      [
        'the entries of all fields',
        (req: IncomingMessage) => Object.fromEntries(Object.entries(req.headers)).cookie,
      ],
      ['whether there is a Cookie field', (req: IncomingMessage) => 'cookie' in req.headers],
    ])('a response is not stored when its handler read %s', async (_name, read) => {
      const { runs, reasons, texts } = await served(makeApp, [(req, res) => void res.end(String(read(req)))]);
      expect([runs, reasons]).toEqual([3, ['cookie-read']]);
      expect(texts[0]).not.toBe(texts[2]);
    });

    it.each<[name: string, read: (req: IncomingMessage) => unknown]>([
      ['the raw fields', (req) => req.rawHeaders.join()],
      ['the Cookie field', (req) => req.headers.cookie],
      ['the distinct Cookie fields', (req) => req.headersDistinct.cookie],
      ['a copy of the distinct fields', (req) => JSON.stringify(req.headersDistinct)],
    ])(
      'a response is not stored when its handler read %s after middleware above had read all fields',
      async (_name, read) => {
        const handler: RequestHandler = (req, res) => void res.end(String(read(req)));
        const above: RequestHandler = (req, _res, next) => {
          for (const fields of [req.rawHeaders, req.headers, req.headersDistinct]) Object.keys(fields);
          next();
        };
        const { runs, reasons, texts } = await served(makeApp, [handler], {}, [above]);
        expect([runs, reasons]).toEqual([3, ['cookie-read']]);
        expect(texts[0]).not.toBe(texts[1]);
      },
    );

    it('a response is not stored when its handler read the distinct fields after the key of a limit', async () => {
      const kit = kitForTest({ url: 'memory:' });
      const key = (req: IncomingMessage) => String(req.headersDistinct.cookie);
      const { reasons, texts } = await served(makeApp, [
        kit.concurrency({ limit: 9, key }) as RequestHandler,
        (req, res) => void res.end(`for ${req.headersDistinct.cookie?.join()}`),
      ]);
      expect(texts).toEqual(['for jwt=ann; lang=de', 'for jwt=bob; lang=de', 'for undefined']);
      expect(reasons).toEqual(['cookie-read']);
    });

    it('a response is stored when its handler read only the Host among distinct fields that were read above', async () => {
      const { runs, reasons } = await served(
        makeApp,
        [(req, res) => void res.end(String(req.headersDistinct.host?.length))],
        {},
        [(req, _res, next) => next(void req.headersDistinct.host)],
      );
      expect([runs, reasons]).toEqual([1, []]);
    });

    it('a response is not stored when its handler read the Cookie field of a client without cookies', async () => {
      const kit = kitForTest({ url: url() });
      const app = makeApp();
      app.use(kit.cache({ ttl: '1m' }));
      app.use((req, res) => void res.end(`for ${req.headers.cookie}`));
      const address = await serve(app);
      expect((await send(address)).text).toBe('for undefined');
      expect((await send(address, { headers: { Cookie: 'a=b' } })).text).toBe('for a=b');
    });

    it('a response is not stored when middleware defined cookies that are parsed on read', async () => {
      const { texts, reasons } = await served(makeApp, [
        (req, _res, next) => {
          const lazy = { configurable: true, get: () => userOf(req) };
          Object.defineProperty(req, 'cookies', lazy);
          next();
        },
        (req, res) => void res.end(`for ${String(Reflect.get(req, 'cookies'))}`),
      ]);
      expect([texts, reasons]).toEqual([['for ann', 'for bob', 'for undefined'], ['cookie-read']]);
    });

    it('one response for each value of Cookie is stored when Vary or the key names the field', async () => {
      const cookies: RequestHandler = (req, res) => {
        res.setHeader('Vary', 'Cookie');
        res.end(`for ${req.headers.cookie}`);
      };
      expect((await served(makeApp, [cookies])).reasons).toEqual([]);
      const keyed = await served(makeApp, [(req, res) => void res.end(`for ${req.headers.cookie}`)], {
        key: { headers: ['Cookie'] },
      });
      expect([keyed.reasons, keyed.texts[2]]).toEqual([[], 'for undefined']);
    });

    it('a response is stored when clients send cookies and its handler read no identity', async () => {
      const { texts, runs, reasons } = await served(makeApp, [
        (req, res) => void res.end(`${req.headers.host !== undefined && req.headers.accept === undefined}`),
      ]);
      expect([texts, runs, reasons]).toEqual([['true', 'true', 'true'], 1, []]);
    });

    it('the properties of a request have the same values during and after the watch of identities', async () => {
      const seen: unknown[] = [];
      await served(makeApp, [
        (req, res) => {
          Object.assign(req, { user: 'x' });
          seen.push(req.user, req.headers.authorization, 'authorization' in req.headers);
          res.on('finish', () => {
            seen.push(Object.keys(req).includes('user'), Object.keys(req).includes('session'), req.user);
            seen.push(Object.getOwnPropertyDescriptor(req, 'user')?.get);
          });
          res.end('body');
        },
      ]);
      expect(seen.slice(0, 7)).toEqual(['x', undefined, false, true, false, 'x', undefined]);
    });
  });

  describe.each(EXPRESS)('on %s', (_, makeApp) => {
    it('a response is not stored when its handler read a session of cookie-session', async () => {
      const { texts, reasons } = await served(makeApp, [
        cookieSession({ keys: ['k'] }),
        (req, res) => void res.end(`${JSON.stringify(req.session)} for ${String(userOf(req))}`),
      ]);
      expect([texts, reasons]).toEqual([['{} for ann', '{} for bob', '{} for undefined'], ['session-read']]);
    });

    it('a response is not stored when middleware derived the user from a cookie', async () => {
      const { texts, reasons } = await served(makeApp, [
        cookieParser(),
        (req, res, next) => {
          res.locals.name = req.cookies.jwt;
          next();
        },
        (_req, res) => void res.end(`for ${String(res.locals.name)}`),
      ]);
      expect([texts, reasons]).toEqual([['for ann', 'for bob', 'for undefined'], ['cookie-read']]);
    });

    it('a response is not stored when middleware before cookie-parser derived the user from the Cookie field', async () => {
      const { texts, reasons } = await served(makeApp, [
        (req, res, next) => {
          res.locals.name = req.headers.cookie;
          next();
        },
        cookieParser('a secret'),
        (_req, res) => void res.end(`for ${String(res.locals.name)}`),
      ]);
      expect(texts[0]).not.toBe(texts[1]);
      expect(reasons).toEqual(['cookie-read']);
    });

    it.each([
      ['without a secret', cookieParser()],
      ['with a secret', cookieParser('a secret')],
    ])(
      'a response is stored when its handler did not read the cookies that cookie-parser %s parsed',
      async (_name, parser) => {
        const { runs, reasons } = await served(makeApp, [parser, (_req, res) => void res.end('body')]);
        expect([runs, reasons]).toEqual([1, []]);
      },
    );

    it('a response is not stored when a cookie parser also derived the user', async () => {
      const { texts, reasons } = await served(makeApp, [
        (req, res, next) => {
          const header = req.headers.cookie;
          const cookies = Object.assign(
            Object.create(null) as object,
            header === undefined ? {} : { all: header },
          );
          Object.assign(req, { cookies });
          res.locals.name = header;
          next();
        },
        (_req, res) => void res.end(`for ${String(res.locals.name)}`),
      ]);
      expect(texts).toEqual(['for jwt=ann; lang=de', 'for jwt=bob; lang=de', 'for undefined']);
      expect(reasons).toEqual(['cookie-read']);
    });

    it('a response is stored when its handler read only cookies that the key names', async () => {
      const cookieOf =
        (name: string): RequestHandler =>
        (req, res) =>
          void res.end(String((req.cookies as Record<string, string | undefined>)[name]));
      const options = { key: { cookies: ['lang'] } };
      const lang = await served(makeApp, [cookieOf('lang')], options, [cookieParser()]);
      expect([lang.texts, lang.runs, lang.reasons]).toEqual([['de', 'de', 'undefined'], 2, []]);
      const jwt = await served(makeApp, [cookieOf('jwt')], options, [cookieParser()]);
      expect([jwt.texts, jwt.reasons]).toEqual([['ann', 'bob', 'undefined'], ['cookie-read']]);
    });

    it('a response is not stored when its handler read a property that `identities` names', async () => {
      const below: RequestHandler[] = [(req, res) => void res.end(`for ${String(Reflect.get(req, 'auth'))}`)];
      const above: RequestHandler[] = [
        (req, _res, next) => {
          Object.assign(req, { auth: userOf(req) });
          next();
        },
      ];
      const { texts, reasons } = await served(makeApp, below, { identities: ['auth'] }, above);
      expect([texts, reasons]).toEqual([['for ann', 'for bob', 'for undefined'], ['session-read']]);
      const named = {
        identities: ['auth'],
        key: { session: (req: object) => String(userOf(req as IncomingMessage)) },
      };
      const keyed = await served(makeApp, below, named, above);
      expect([keyed.texts, keyed.reasons]).toEqual([['for ann', 'for bob', 'for undefined'], []]);
    });

    it('a response is stored when only morgan, passport and a session middleware read identities', async () => {
      const kit = kitForTest({ url: url() });
      const authenticator = new passport.Passport();
      const lines: string[] = [];
      const app = makeApp();
      app.use(
        morgan('combined', { stream: { write: (line: string) => void lines.push(line) } }),
        cookieParser(),
        kit.session({ secret: 'a secret for this test' }) as RequestHandler,
        authenticator.initialize(),
        authenticator.session(),
      );
      let runs = 0;
      app.get('/', kit.cache({ ttl: '1m' }), (_req, res) => {
        runs++;
        res.send('body');
      });
      const address = await serve(app);
      for (const user of USERS) await send(address, { headers: { Cookie: `jwt=${user}` } });
      expect([runs, lines.length]).toEqual([1, 2]);
    });

    it('a response is stored when limits and a lock of the kit, keyed by the user, run after the cache', async () => {
      const kit = kitForTest({ url: url() });
      const key = (req: object) => String(Reflect.get(req, 'user'));
      const app = makeApp().use((req, _res, next) => next(void Object.assign(req, { user: userOf(req) })));
      let runs = 0;
      app.get(
        '/',
        kit.cache({ ttl: '1m' }),
        kit.rateLimit({ algorithm: 'sliding-window', limit: 9, window: '1m', key }) as RequestHandler,
        kit.concurrency({ limit: 9, key }) as RequestHandler,
        kit.lock({ key }) as RequestHandler,
        (_req, res) => {
          runs++;
          res.send('body');
        },
      );
      const address = await serve(app);
      for (const user of USERS) await send(address, { headers: { 'X-User': user } });
      expect(runs).toBe(1);
    });

    it('a response is stored when morgan logs immediately and reads the Authorization field', async () => {
      const log = morgan('combined', { immediate: true, stream: { write: () => undefined } });
      const { runs, reasons } = await served(makeApp, [log, (_req, res) => void res.end('body')]);
      expect([runs, reasons]).toEqual([1, []]);
    });

    it('a `public` response whose handler read Authorization is stored only if Vary names the field', async () => {
      const page = (vary?: string): RequestHandler => {
        return (req, res) => {
          if (vary !== undefined) res.set('Vary', vary);
          res.set('Cache-Control', 'public').send(`for ${req.get('authorization')}`);
        };
      };
      const kit = kitForTest({ url: url() });
      const skipped = eventsOf(kit, 'cache:skipped');
      const app = makeApp().use(kit.cache({ ttl: '1m' }));
      app.get('/plain', page());
      app.get('/varies', page('Authorization'));
      const address = await serve(app);
      for (const path of ['/plain', '/varies']) {
        for (const user of [...USERS, ...USERS]) {
          const answer = await send(`${address}${path}`, { headers: { Authorization: user } });
          expect(answer.text).toBe(`for ${user}`);
        }
        expect((await send(`${address}${path}`)).text).toBe('for undefined');
      }
      expect(skipped.map(({ reason }) => reason)).toEqual(Array(5).fill('authorization-read'));
    });
  });

  it.each([['auth'], [{}], [['']], [[1]]])('the option `identities: %j` is refused', (identities) => {
    const kit = kitForTest({ url: 'memory:' });
    if (identities === 'auth')
      expect(() => kit.cache({ identities: 'auth' as never })).toThrow('`identities`');
    else expect(() => kit.cache({ identities: identities as never })).toThrow('`identities`');
  });
});
