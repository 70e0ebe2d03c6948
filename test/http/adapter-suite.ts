import type { Application } from 'express';
import { describe, expect, it } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { EXPRESS } from './frameworks.ts';

export interface Got {
  readonly status: number;
  readonly text: string;
  readonly cookies: readonly string[];
  readonly header: (name: string) => unknown;
}

export interface Request {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

export type Send = (request: Request) => Promise<Got>;

/** Tests an app through an adapter that reads each response in full when it has ended. */
export function describeAdapter(name: string, make: (app: Application) => Send): void {
  describeOnBothEngines(name, (url) => {
    describe.each(EXPRESS)('on %s', (_, makeApp) => {
      function start(prepare: (app: Application, kit: RedisKit) => void): Send {
        const app = makeApp();
        prepare(app, kitForTest({ url: url() }));
        const sendTo = make(app);
        return (request) => sendTo(request);
      }
      const get = (path: string, headers = {}) => ({ method: 'GET', path, headers }) as const;

      it('a new session is saved before the body and the cookie are sent', async () => {
        const send = start((app, kit) => {
          app.use(kit.session({ secret: 'a secret for this test' }));
          app.get('/', (req, res) => {
            const visits = Number(Reflect.get(req.session, 'visits') ?? 0) + 1;
            Object.assign(req.session, { visits });
            res.json({ visits });
          });
        });
        const first = await send(get('/'));
        expect([first.status, first.text, first.cookies]).toEqual([
          200,
          '{"visits":1}',
          [expect.stringMatching(/^connect\.sid=/)],
        ]);
        const second = await send(get('/', { cookie: first.cookies[0]?.split(';')[0] ?? '' }));
        expect([second.status, second.text]).toEqual([200, '{"visits":2}']);
      });

      it('a cache hit equals the original response', async () => {
        let runs = 0;
        const send = start((app, kit) => {
          app.get('/', kit.cache({ ttl: '1m' }), (_req, res) => {
            runs++;
            res.set('ETag', '"page"').send('page');
          });
        });
        for (let asked = 0; asked < 3; asked++) {
          const { status, text, header } = await send(get('/'));
          expect([status, text, header('etag')]).toEqual([200, 'page', '"page"']);
        }
        expect((await send(get('/', { 'if-none-match': '"page"' }))).status).toBe(304);
        expect(runs).toBe(1);
      });

      it('a replay equals the recorded response', async () => {
        let runs = 0;
        const send = start((app, kit) => {
          app.post(
            '/',
            kit.idempotency({ scope: () => 'everybody', fingerprint: () => 'same' }),
            (_req, res) => void res.status(201).json({ run: ++runs }),
          );
        });
        const order = { method: 'POST', path: '/', headers: { 'idempotency-key': '"k"' } } as const;
        for (const replayed of [undefined, 'true']) {
          const { status, text, header } = await send(order);
          expect([status, text, header('idempotent-replayed')]).toEqual([201, '{"run":1}', replayed]);
        }
      });

      it('a request that holds a lock and a slot receives its response', async () => {
        const send = start((app, kit) => {
          app.use(kit.lock({ key: () => 'one' }), kit.concurrency({ key: () => 'one', limit: 1 }));
          app.get('/', (_req, res) => void res.send('page'));
        });
        for (let asked = 0; asked < 2; asked++) {
          const { status, text } = await send(get('/'));
          expect([status, text]).toEqual([200, 'page']);
        }
      });
    });
  });
}
