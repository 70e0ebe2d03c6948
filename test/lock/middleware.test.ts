import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import { Agent, get, type IncomingMessage, request } from 'node:http';
import express, { type RequestHandler } from 'express';
import { expect, it, onTestFinished } from 'vitest';
import { type LockConflict, LockLostError, type LockOptions } from '../../src/index.ts';
import { APPS } from '../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../support/kits.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

/** A promise that the test resolves. */
function gate() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

function expectCutOff(error: unknown): void {
  expect(String(error)).toMatch(/aborted|hang up|ECONNRESET/);
}

describeOnBothEngines('kit.lock', (url) => {
  async function start(handler: RequestHandler, options: Partial<LockOptions> = {}) {
    const kit = kitForTest({ url: url() });
    const app = express().set('env', 'test');
    app.all('/{*path}', kit.lock({ key: () => 'order:7', ...options }), handler);
    const isFree = async () => {
      await using lock = await kit.locks.tryAcquire('order:7');
      return lock !== null;
    };
    return { kit, address: await serve(app), isFree };
  }

  it('one of two requests with the same key runs, and the other is refused with 409, Retry-After and problem details', async () => {
    const { opened, open } = gate();
    const { kit, address, isFree } = await start((req, res) => {
      void opened.then(() => res.json({ fence: req.lock?.fence, keys: req.lock?.keys }));
    });
    const [acquired, refused, released] = (['lock:acquired', 'lock:refused', 'lock:released'] as const).map(
      (name) => eventsOf(kit, name),
    );
    const first = send(address);
    await until('it holds the lock', () => acquired?.length === 1);
    const second = await send(address);
    expect(second.status).toBe(409);
    expect(second.headers['content-type']).toContain('application/problem+json');
    expect(JSON.parse(second.text)).toMatchObject({ status: 409, title: 'Conflict' });
    expect(second.headers['retry-after']).toBe('1');
    expect(await isFree()).toBe(false);
    open();
    const { status, text } = await first;
    expect(status).toBe(200);
    expect(JSON.parse(text)).toEqual({ fence: expect.any(Number), keys: ['order:7'] });
    expect([acquired, refused, released]).toMatchObject([
      [{ keys: ['order:7'] }],
      [{ keys: ['order:7'] }, { keys: ['order:7'] }],
      [{ keys: ['order:7'] }],
    ]);
  });

  it('requests with different keys run at the same time', async () => {
    let running = 0;
    const { opened, open } = gate();
    const { address } = await start(
      (_req, res) => {
        if (++running === 3) open();
        void opened.then(() => res.end());
      },
      { key: async (req) => req.path },
    );
    const answers = await Promise.all(['a', 'b', 'c'].map((path) => send(`${address}/${path}`)));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
  });

  it.each<[string, RequestHandler]>([
    ['sent at once', (_req, res) => void res.send('body')],
    [
      'in one write() that completes the declared length, with a much later end()',
      (_req, res) => {
        res.setHeader('Content-Length', 4);
        res.write('body');
        setTimeout(() => res.end(), 5);
      },
    ],
    [
      'in pieces',
      (_req, res) => {
        res.write('bo');
        setImmediate(() => res.end('dy'));
      },
    ],
  ])(
    'a client that sends 200 consecutive requests is never refused because of the lock of its last request, with a response %s',
    async (_, handler) => {
      const { address } = await start(handler);
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      onTestFinished(() => agent.destroy());
      for (let turn = 0; turn < 200; turn++) {
        const [response] = (await once(get(address, { agent }), 'response')) as [IncomingMessage];
        let text = '';
        for await (const chunk of response.setEncoding('utf8')) text += chunk;
        expect([turn, response.statusCode, text]).toEqual([turn, 200, 'body']);
      }
    },
  );

  it('a lock is released before the client has the last byte; with a declared length, even before end() is called', async () => {
    const { opened, open } = gate();
    const { address, isFree } = await start((_req, res) => {
      res.setHeader('Content-Length', 4);
      res.write('bo');
      res.write('dy');
      void opened.then(() => res.end());
    });
    let received = '';
    const client = request(address, { agent: false }).end();
    const [response] = (await once(client, 'response')) as [IncomingMessage];
    response.setEncoding('utf8').on('data', (chunk) => {
      received += chunk;
    });
    await until('the first half has arrived', () => received === 'bo');
    expect(await isFree()).toBe(false);
    open();
    await until('the whole body has arrived', () => received === 'body');
    expect(await isFree()).toBe(true);
  });

  it('a handler that still runs after its client has disconnected keeps its lock', async () => {
    const { opened, open } = gate();
    let gone = false;
    const { kit, address, isFree } = await start((_req, res) => {
      res.on('close', () => {
        gone = true;
      });
      void opened.then(() => res.send('without a client'));
    });
    const acquired = eventsOf(kit, 'lock:acquired');
    const client = request(address, { agent: false }).on('error', expectCutOff).end();
    await until('it holds the lock', () => acquired.length === 1);
    client.destroy();
    await until('the server knows', () => gone);
    expect((await send(address)).status).toBe(409);
    open();
    await until('it is free', isFree);
  });

  it.each<[string, RequestHandler]>([
    [
      'throws',
      () => {
        throw new Error('on purpose');
      },
    ],
    ['rejects', () => Promise.reject(new Error('on purpose'))],
    ['calls next(error)', (_req, _res, next) => next(new Error('on purpose'))],
    ['calls next() without a response', (_req, _res, next) => next()],
  ])('a lock is free again when the handler %s', async (_, handler) => {
    const { address, isFree } = await start(handler);
    for (let turn = 0; turn < 3; turn++) expect((await send(address)).status).toBeGreaterThanOrEqual(404);
    expect(await isFree()).toBe(true);
  });

  it('a handler that takes longer than maxHold loses its lock, and `onLost` is called once', async () => {
    const lost: unknown[] = [];
    let reason: unknown;
    const { kit, address, isFree } = await start(
      (req) => {
        req.lock?.signal.addEventListener('abort', () => {
          reason = req.lock?.signal.reason;
        });
      },
      { maxHold: '150ms', onLost: (req, _res, error) => lost.push([req.path, error]) },
    );
    const events = eventsOf(kit, 'lock:lost');
    const client = request(address, { agent: false }).on('error', expectCutOff).end();
    onTestFinished(() => void client.destroy());
    await until('it is lost', () => events.length > 0);
    await until('it is free', isFree);
    expect(reason).toMatchObject({ name: 'LockLostError', code: 'ERR_REDIS_KIT_LOCK_LOST' });
    expect(lost).toEqual([['/', reason]]);
    expect(events).toEqual([{ keys: ['order:7'], error: reason }]);
  });

  it('`onLost` runs in the async context of its request', async () => {
    const context = new AsyncLocalStorage<string>();
    onTestFinished(() => context.disable());
    const seen: unknown[] = [];
    const kit = kitForTest({ url: url() });
    const app = express();
    const onLost = () => void seen.push(context.getStore());
    app.use((req, _res, next) => context.run(req.path, next));
    app.use(kit.lock({ key: (req) => req.path, maxHold: '50ms', onLost }), () => undefined);
    const address = await serve(app);
    for (const path of ['/a', '/b']) {
      const client = request(address + path, { agent: false })
        .on('error', expectCutOff)
        .end();
      onTestFinished(() => void client.destroy());
    }
    await until('both locks are lost', () => seen.length === 2);
    expect(seen.toSorted()).toEqual(['/a', '/b']);
  });

  it('a lock is renewed while the handler runs, so that no other request gets the lock', async () => {
    stopTime();
    const { opened, open } = gate();
    const { kit, address, isFree } = await start(
      (req, res) => void opened.then(() => res.json(req.lock?.signal.aborted)),
      { lease: 60_000 },
    );
    const acquired = eventsOf(kit, 'lock:acquired');
    const answer = send(address);
    await until('it holds the lock', () => acquired.length === 1);
    for (let third = 1; third <= 8; third++) {
      await passTime(20_000);
      expect(await isFree()).toBe(false);
    }
    open();
    expect((await answer).text).toBe('false');
    expect(await isFree()).toBe(true);
  });

  it('a request with the key null takes no lock', async () => {
    let running = 0;
    const { opened, open } = gate();
    const { address } = await start(
      (req, res) => {
        if (++running === 2) open();
        void opened.then(() => res.json(req.lock === undefined));
      },
      { key: () => null },
    );
    const answers = await Promise.all([send(address), send(address)]);
    expect(answers.map(({ text }) => text)).toEqual(['true', 'true']);
  });

  it.each([
    ["''", () => ''],
    ['undefined', () => undefined],
    ['7', () => 7],
    ['an object', async () => ({})],
    ['a rejection', () => Promise.reject(new Error('a rejection'))],
    [
      'an exception',
      () => {
        throw new Error('an exception');
      },
    ],
  ])('a request takes no lock and fails with an error when its key is %s', async (value, key) => {
    const kit = kitForTest({ url: url() });
    const errors: unknown[] = [];
    const app = express();
    app.use(kit.lock({ key: key as unknown as LockOptions['key'] }), (_req, res) => void res.send('ran'));
    app.use((error: unknown, _req: unknown, res: express.Response, _next: unknown) => {
      errors.push(error);
      res.status(500).end();
    });
    expect((await send(await serve(app))).status).toBe(500);
    expect(errors).toHaveLength(1);
    expect(String(errors[0])).toContain(value);
    const isOwn = value === 'a rejection' || value === 'an exception';
    expect(errors[0]).toMatchObject(isOwn ? { name: 'Error' } : { code: 'ERR_REDIS_KIT_NO_IDENTITY' });
  });

  it('the option `handler` receives the conflict', async () => {
    const conflicts: LockConflict[] = [];
    const { kit, address } = await start((_req, res) => void res.send('ran'), {
      lease: '30s',
      handler: (req, res, _next, conflict) => {
        conflicts.push(conflict);
        res.status(423).send(req.path);
      },
    });
    await using _held = await kit.locks.tryAcquire('order:7', { lease: '1h' });
    const answer = await send(`${address}/x`);
    expect([answer.status, answer.text]).toEqual([423, '/x']);
    expect(conflicts).toEqual([{ key: 'order:7', hasWaited: false, expiresInMs: expect.any(Number) }]);
    expect(conflicts[0]?.expiresInMs).toBeLessThanOrEqual(3_600_000);
    expect(conflicts[0]?.expiresInMs).toBeGreaterThan(3_000_000);
  });

  it.each(['throws', 'rejects'] as const)(
    'a refused request does not run when the option `handler` %s, even if onError is allow',
    async (way) => {
      let runs = 0;
      const { kit, address } = await start((_req, res) => void res.send(String(++runs)), {
        onError: 'allow',
        handler: () => {
          const error = new LockLostError('an error like ours');
          if (way === 'throws') throw error;
          return Promise.reject(error) as unknown as undefined;
        },
      });
      await using _held = await kit.locks.tryAcquire('order:7');
      expect((await send(address)).status).toBe(500);
      expect(runs).toBe(0);
    },
  );

  it('the rejection of an `onLost` callback is reported as an error event', async () => {
    const { kit, address } = await start(() => undefined, {
      maxHold: '50ms',
      onLost: async () => Promise.reject(new Error('no pager')),
    });
    const errors = eventsOf(kit, 'error');
    const client = request(address, { agent: false }).on('error', expectCutOff).end();
    onTestFinished(() => void client.destroy());
    await until('the error is reported', () => errors.length > 0);
    expect(errors[0]).toMatchObject({ feature: 'lock', error: { message: 'no pager' } });
  });

  it.each(APPS)('kit.lock works under %s', async (_, makeApp) => {
    const kit = kitForTest({ url: url() });
    const { opened, open } = gate();
    const acquired = eventsOf(kit, 'lock:acquired');
    const app = makeApp();
    app.use(kit.lock({ key: () => 'a' }));
    app.use((_req, res) => void opened.then(() => res.end('ran')));
    const address = await serve(app);
    const first = send(address);
    await until('it holds the lock', () => acquired.length === 1);
    expect((await send(address)).status).toBe(409);
    open();
    expect((await first).text).toBe('ran');
    expect((await send(address)).status).toBe(200);
  });
});
