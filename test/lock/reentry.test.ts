import { EventEmitter } from 'node:events';
import express from 'express';
import Pool from 'pg-pool';
import { describe, expect, it, onTestFinished } from 'vitest';
import { EXPRESS } from '../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { keepingLogger } from '../support/stores.ts';
import { passTime, passTimeUntilSettled, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

const REENTRY = { code: 'ERR_REDIS_KIT_LOCK_REENTRY' };
const TIMEOUT = { code: 'ERR_REDIS_KIT_LOCK_TIMEOUT' };
const WARNING = expect.stringContaining('async context');

describeOnBothEngines('Reentry: work that requests a lock that it holds', (url) => {
  it('a second kit.lock with the same key in one request fails at once', async () => {
    const kit = kitForTest({ url: url() });
    const app = express().set('env', 'test');
    const lock = () => kit.lock({ key: () => 'a', wait: '20s' });
    app.get('/', lock(), express.json(), lock(), (_req, res) => void res.send('ran'));
    app.use((error: { code: string }, _req: unknown, res: express.Response, _next: unknown) => {
      res.status(500).send(error.code);
    });
    const address = await serve(app);
    for (let turn = 0; turn < 2; turn++) {
      expect(await send(address)).toMatchObject({ status: 500, text: REENTRY.code });
    }
  });

  it('a kit.lock inside a locked handler fails at once when it requests the same key', async () => {
    const kit = kitForTest({ url: url() });
    const inner = kit.lock({ key: () => ['b', 'a'], wait: '20s' });
    const app = express().set('env', 'test');
    app.get(
      '/',
      kit.lock({ key: () => 'a' }, (req, res) => {
        inner(req, res, (error) => void res.send((error as { code: string }).code));
      }),
    );
    expect((await send(await serve(app))).text).toBe(REENTRY.code);
    expect((await kit.locks.inspect('b')).held).toBe(false);
  });

  it('kit.locks.acquire with the signal of a held lock fails at once, even several calls deep', async () => {
    const kit = kitForTest({ url: url() });
    const app = express();
    app.get('/', kit.lock({ key: () => 'a' }), async (req, res) => {
      await new Promise((resolve) => setImmediate(resolve));
      const options = { wait: '20s', signal: req.lock?.signal } as const;
      res.json(await kit.locks.acquire(['b', 'a'], options).catch((reason: unknown) => reason));
    });
    const { text } = await send(await serve(app));
    expect(JSON.parse(text)).toMatchObject(REENTRY);
    expect((await kit.locks.inspect('b')).held).toBe(false);
  });

  it('kit.locks.acquire inside `using` fails at once with the signal of the held lock', async () => {
    const { locks } = kitForTest({ url: url() });
    await locks.using('a', {}, async ({ signal }) => {
      await expect(locks.acquire('a', { signal })).rejects.toThrow(/pass the handle on/);
      await expect(locks.using('a', { signal }, () => undefined)).rejects.toMatchObject(REENTRY);
      await locks.using('b', { signal }, () => undefined);
    });
    expect(await locks.tryAcquire('a')).not.toBeNull();
  });

  it('a reentry that only the async context shows waits until `wait` is over, with one warning', async () => {
    const logger = keepingLogger();
    const kit = kitForTest({ url: url(), logger });
    const app = express();
    app.get('/', kit.lock({ key: () => 'a' }), async (_req, res) => {
      await new Promise((resolve) => setImmediate(resolve));
      const error = kit.locks.acquire('a', { wait: '100ms' }).catch((reason: unknown) => reason);
      res.json([await error, await kit.locks.tryAcquire('a')]);
    });
    expect(JSON.parse((await send(await serve(app))).text)).toMatchObject([TIMEOUT, null]);
    await kit.locks.using('b', {}, () => kit.locks.tryAcquire('b'));
    expect(logger.lines.filter((line) => line.includes('kit.locks'))).toEqual([WARNING]);
  });

  it('a call that waits for the lock of another request and gets it in its turn causes no warning', async () => {
    const logger = keepingLogger();
    const kit = kitForTest({ url: url(), logger });
    const app = express();
    let end: () => void = () => undefined;
    app.get('/', kit.lock({ key: () => 'a' }), (_req, res) => {
      end = () => res.send('ran');
    });
    const answer = send(await serve(app));
    await until('the request holds the lock', async () => (await kit.locks.inspect('a')).held);
    expect(await kit.locks.tryAcquire('a')).toBeNull();
    await expect(kit.locks.acquire('a', { wait: 0 })).rejects.toMatchObject(TIMEOUT);
    const next = kit.locks.acquire('a', { wait: '20s' });
    await until('the call waits', async () => (await kit.locks.inspect('a')).waiters === 1);
    end();
    expect((await answer).text).toBe('ran');
    await (await next).release();
    expect(logger.lines.filter((line) => line.includes('kit.locks'))).toEqual([]);
  });

  it('a call that waits in vain for a lock that passes from request to request causes no warning', async () => {
    const logger = keepingLogger();
    const kit = kitForTest({ url: url(), logger });
    const app = express();
    const ends: (() => void)[] = [];
    app.get('/', kit.lock({ key: () => 'a', wait: '20s' }), (_req, res) => {
      ends.push(() => res.send('ran'));
    });
    const address = await serve(app);
    const answers = [send(address)];
    await until('the first request runs', () => ends.length === 1);
    answers.push(send(address));
    await until('the second request waits', async () => (await kit.locks.inspect('a')).waiters === 1);
    stopTime();
    const refused = kit.locks.acquire('a', { wait: '1s' }).catch((reason: unknown) => reason);
    await until('the call waits', async () => (await kit.locks.inspect('a')).waiters === 2);
    await passTime(100);
    ends[0]?.();
    await until('the second request runs', () => ends.length === 2);
    expect(await passTimeUntilSettled(refused)).toMatchObject(TIMEOUT);
    ends[1]?.();
    expect((await Promise.all(answers)).map(({ text }) => text)).toEqual(['ran', 'ran']);
    expect(logger.lines.filter((line) => line.includes('kit.locks'))).toEqual([]);
  });

  it('a released lock, a lock in another namespace and other work cause no reentry error', async () => {
    const logger = keepingLogger();
    const kit = kitForTest({ url: url(), logger });
    const { locks } = kit;
    await locks.using('a', {}, async (lock) => {
      const { signal } = lock;
      await kit.namespace('other').locks.using('a', { signal }, () => undefined);
      await lock.release();
      await locks.using('a', { signal }, () => undefined);
    });
    const first = await locks.acquire('a');
    const second = locks.acquire('a', { wait: '20s' });
    await first.release();
    await second;
    expect(logger.lines.filter((line) => line.includes('kit.locks'))).toEqual([]);
  });
});

/** A database client whose queries take different times. */
class SlowClient extends EventEmitter {
  readonly _queryable = true;

  connect(done: () => void): void {
    setImmediate(done);
  }

  query(_text: string, _values: unknown, done: (error: undefined, result: object) => void): void {
    setImmediate(() => done(undefined, {}));
  }

  end(done?: () => void): void {
    done?.();
  }
}

/** A queue that runs the callback of the next waiter inside the call that leaves the queue. */
function makeQueue() {
  const waiting: (() => void)[] = [];
  let isTaken = false;
  return {
    take(run: () => void): void {
      if (isTaken) waiting.push(run);
      else {
        isTaken = true;
        run();
      }
    },
    giveUp(): void {
      const next = waiting.shift();
      isTaken = next !== undefined;
      next?.();
    },
  };
}

type Pass = (run: (giveUp: () => void) => void) => void;

/**
 * Resources that run the callback of one request in the async context of another request, which has just released the
 * resource.
 */
const CARRIERS: Readonly<Record<string, () => Pass>> = {
  'pg-pool': () => {
    const pool = new Pool({ max: 1, Client: SlowClient });
    onTestFinished(() => pool.end());
    return (run) => pool.connect((_error, _client, release) => run(() => release()));
  },
  'a queue of callbacks': () => {
    const queue = makeQueue();
    return (run) => queue.take(() => run(queue.giveUp));
  },
};

describeOnBothEngines(
  'a request that is called back in the async context of another request that holds a lock',
  (url) => {
    describe.each(EXPRESS)('on %s', (_, makeApp) => {
      it.each(Object.keys(CARRIERS))(
        'a request that %s calls back in the context of a holder gets the lock in its turn from kit.locks',
        async (name) => {
          const kit = kitForTest({ url: url() });
          const pass = (CARRIERS[name] ?? expect.unreachable())();
          const ran: string[] = [];
          const app = makeApp();
          let endFirst: () => void = () => undefined;
          app.get('/first', (_req, res) => {
            pass((giveUp) => {
              void kit.locks.using('a', {}, async () => {
                ran.push('first');
                await new Promise<void>((resolve) => {
                  endFirst = resolve;
                  // The callback of the second request runs while this request still holds its lock.
                  void until('the second has come', () => ran.includes('second waits')).then(giveUp);
                });
                res.send('first');
              });
            });
          });
          app.get('/second', (_req, res) => {
            pass((giveUp) => {
              kit.locks
                .using('a', { wait: '20s' }, () => void ran.push('second'))
                .then(
                  () => res.send('second'),
                  (error: { code: string }) => res.status(500).send(error.code),
                )
                .finally(giveUp);
            });
            ran.push('second waits');
          });
          const address = await serve(app);
          const first = send(`${address}/first`);
          await until('the first runs', () => ran.includes('first'));
          const second = send(`${address}/second`);
          await until('the second is in the queue', async () => (await kit.locks.inspect('a')).waiters === 1);
          endFirst();
          expect([(await first).text, (await second).text]).toEqual(['first', 'second']);
          expect(ran).toEqual(['first', 'second waits', 'second']);
        },
      );

      it.each(Object.keys(CARRIERS))(
        'a request that %s calls back in the context of a holder gets the lock in its turn from kit.lock',
        async (name) => {
          const kit = kitForTest({ url: url() });
          const pass = (CARRIERS[name] ?? expect.unreachable())();
          const app = makeApp();
          const lock = kit.lock({ key: () => 'a', wait: '20s' });
          let secondHasCome = false;
          let endFirst: () => void = () => undefined;
          app.get('/first', lock, (_req, res) => {
            pass((giveUp) => {
              endFirst = () => res.send('first');
              void until('the second has come', () => secondHasCome).then(giveUp);
            });
          });
          app.get(
            '/second',
            (_req, _res, next) => {
              pass((giveUp) => {
                next();
                giveUp();
              });
              secondHasCome = true;
            },
            lock,
            (_req, res) => void res.send('second'),
          );
          const address = await serve(app);
          const first = send(`${address}/first`);
          await until('the first holds the lock', async () => (await kit.locks.inspect('a')).held);
          const second = send(`${address}/second`);
          await until('the second is in the queue', async () => (await kit.locks.inspect('a')).waiters === 1);
          endFirst();
          expect([(await first).text, (await second).text]).toEqual(['first', 'second']);
        },
      );
    });
  },
);
