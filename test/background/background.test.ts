import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, expect, it } from 'vitest';
import type { Background, BackgroundOptions } from '../../src/index.ts';
import { Gate } from '../http/exchange.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { startProgram } from '../support/program.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';

function start(options: BackgroundOptions = {}) {
  const kit = kitForTest({ url: 'memory:' });
  const lost: [code: string | undefined, key: string][] = [];
  const background = kit.background({
    onError: (error, { key }) => lost.push([(error as { code?: string }).code ?? error.message, key]),
    ...options,
  });
  return { kit, background, lost, errors: eventsOf(kit, 'error') };
}

/** Pushes a job that ends when its gate opens, and records begin and end. */
function gated(background: Background, log: string[]) {
  return async (key: string, name: string): Promise<Gate> => {
    const gate = new Gate();
    await background.push(key, async () => {
      log.push(`${name} begins`);
      await gate.promise;
      log.push(`${name} ends`);
    });
    return gate;
  };
}

/** Lets all jobs that can begin, begin. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('Jobs in the background', () => {
  it('two jobs of one key run one after the other, and a job of another key does not wait for them', async () => {
    const { background } = start();
    const log: string[] = [];
    const push = gated(background, log);
    const [first, second, other] = [await push('a', 'a1'), await push('a', 'a2'), await push('b', 'b1')];
    await turn();
    expect(log).toEqual(['a1 begins', 'b1 begins']);
    other.open();
    first.open();
    await turn();
    expect(log.slice(2)).toEqual(['b1 ends', 'a1 ends', 'a2 begins']);
    second.open();
    await background.flush();
    expect(log.at(-1)).toBe('a2 ends');
    expect(background.stats()).toEqual({ running: 0, queued: 0, failed: 0 });
  });

  it('a job does not begin inside of its push, and stats() counts what runs and what waits', async () => {
    const { background } = start({ workers: 2 });
    const log: string[] = [];
    const push = gated(background, log);
    const pushed = push('a', 'a');
    expect(log).toEqual([]);
    const gates = [await pushed];
    for (const key of ['b', 'c', 'd']) gates.push(await push(key, key));
    await turn();
    expect(log).toEqual(['a begins', 'b begins']);
    expect(background.stats()).toEqual({ running: 2, queued: 2, failed: 0 });
    for (const gate of gates) gate.open();
    await background.flush();
    expect(log).toHaveLength(8);
  });

  it('many jobs of one key do not hold up the job of another key', async () => {
    const { background } = start({ workers: 1 });
    const order: string[] = [];
    for (const name of ['a1', 'a2', 'a3', 'b1']) {
      void background.push(name.charAt(0), () => order.push(name));
    }
    await background.flush();
    expect(order).toEqual(['a1', 'b1', 'a2', 'a3']);
  });

  it('a job runs in the async context of its push', async () => {
    const { background } = start({ workers: 1 });
    const storage = new AsyncLocalStorage<string>();
    const seen: (string | undefined)[] = [];
    for (const name of ['one', 'two']) {
      await storage.run(name, () => background.push(name, () => seen.push(storage.getStore())));
    }
    await background.flush();
    expect(seen).toEqual(['one', 'two']);
  });

  it('a job that throws or rejects is reported with its key, and the next jobs run', async () => {
    const { background, lost, errors } = start();
    let hasRun = false;
    await background.push('a', () => {
      throw new Error('thrown');
    });
    await background.push('b', () => Promise.reject(new Error('rejected')));
    await background.push('a', () => {
      hasRun = true;
    });
    await background.flush();
    expect(hasRun).toBe(true);
    expect(lost).toEqual([
      ['thrown', 'a'],
      ['rejected', 'b'],
    ]);
    expect(errors.map(({ feature, error }) => [feature, error.message])).toEqual([
      ['background', 'thrown'],
      ['background', 'rejected'],
    ]);
    expect(background.stats().failed).toBe(2);
  });

  it('an onError that throws is reported, and the next jobs run', async () => {
    const { background, errors } = start({
      onError: () => {
        throw new Error('onError is wrong');
      },
    });
    await background.push('a', () => Promise.reject(new Error('a job')));
    await background.push('a', () => undefined);
    await background.flush();
    expect(errors.map(({ error }) => error.message)).toEqual(['a job', 'onError is wrong']);
  });
});

describe('A full queue of jobs', () => {
  /** A queue of two, behind a running job. */
  async function startFull(onFull: BackgroundOptions['onFull']) {
    const started = start({ workers: 1, queue: 2, onFull });
    const log: string[] = [];
    const gate = await gated(started.background, log)('a', 'a1');
    for (const name of ['b1', 'b2']) await started.background.push('b', () => log.push(name));
    return { ...started, log, gate, next: () => started.background.push('b', () => log.push('b3')) };
  }

  it('a push waits for space with onFull wait, which is the default, and keeps its place', async () => {
    const { background, log, gate, next } = await startFull(undefined);
    let isAccepted = false;
    const pushed = next().then(() => {
      isAccepted = true;
    });
    await turn();
    expect(isAccepted).toBe(false);
    expect(background.stats().queued).toBe(2);
    gate.open();
    await pushed;
    await background.flush();
    expect(log).toEqual(['a1 begins', 'a1 ends', 'b1', 'b2', 'b3']);
  });

  it('a push rejects with onFull reject, and nothing is reported', async () => {
    const { background, log, gate, lost, next } = await startFull('reject');
    await expect(next()).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_QUEUE_FULL', status: 503 });
    gate.open();
    await background.flush();
    expect(log).toEqual(['a1 begins', 'a1 ends', 'b1', 'b2']);
    expect(lost).toEqual([]);
  });

  it('the oldest job in the queue is dropped and reported with onFull drop-oldest', async () => {
    const { background, log, gate, lost, next } = await startFull('drop-oldest');
    await next();
    expect(lost).toEqual([['ERR_REDIS_KIT_QUEUE_FULL', 'b']]);
    gate.open();
    await background.flush();
    expect(log).toEqual(['a1 begins', 'a1 ends', 'b2', 'b3']);
    expect(background.stats().failed).toBe(1);
  });

  it('an onError that pushes the dropped job again does not exceed the queue', async () => {
    const queued: number[] = [];
    const ran: string[] = [];
    const { background } = start({
      workers: 1,
      queue: 5,
      onFull: 'drop-oldest',
      onError: (_error, { key }) => {
        queued.push(background.stats().queued);
        return background.push(key, () => ran.push(key));
      },
    });
    const gate = await gated(background, [])('running', 'running');
    for (const key of ['a', 'b', 'c', 'd', 'e', 'f']) await background.push(key, () => ran.push(key));
    await turn();
    expect(background.stats().queued).toBe(5);
    gate.open();
    await until('all jobs have run', () => ran.length === 6);
    expect(Math.max(...queued)).toBe(5);
    expect(ran.sort()).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
  });

  it('flush() resolves after the report of a job that was dropped for a push in onError', async () => {
    const lost: string[] = [];
    const { background } = start({
      workers: 1,
      queue: 1,
      onFull: 'drop-oldest',
      onError: (_error, { key }) => {
        lost.push(key);
        return key === 'a' ? background.push('c', () => undefined) : undefined;
      },
    });
    const gate = await gated(background, [])('running', 'running');
    for (const key of ['a', 'b']) await background.push(key, () => undefined);
    gate.open();
    await background.flush();
    expect(lost).toEqual(['a', 'b']);
  });

  it('a job with a free worker and a free key runs at once, although the queue is full', async () => {
    const { background } = start({ workers: 2, queue: 1, onFull: 'reject' });
    const log: string[] = [];
    const push = gated(background, log);
    const gates = [await push('a', 'a1'), await push('a', 'a2')];
    await expect(push('a', 'a3')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_QUEUE_FULL' });
    gates.push(await push('b', 'b1'));
    await turn();
    expect(log).toEqual(['a1 begins', 'b1 begins']);
    for (const gate of gates) gate.open();
    await background.flush();
  });

  it('random jobs stay within the workers and the queue, and in order per key', async () => {
    for (const [workers, queue] of [
      [1, 1],
      [2, 3],
      [3, 1],
    ] as const) {
      const { background } = start({ workers, queue });
      const running = new Set<string>();
      const order: Record<string, number[]> = { a: [], b: [], c: [] };
      const pushes = Array.from({ length: 60 }, (_, number) => {
        const key = 'abcab'.charAt((number * 7) % 5);
        return background.push(key, async () => {
          expect(running.has(key), `the key ${key} is free`).toBe(false);
          running.add(key);
          expect(running.size).toBeLessThanOrEqual(workers);
          expect(background.stats().queued).toBeLessThanOrEqual(queue);
          for (let turns = (number * 5) % 3; turns > 0; turns--) await turn();
          order[key]?.push(number);
          running.delete(key);
        });
      });
      await Promise.all(pushes);
      await background.flush();
      expect(background.stats().failed).toBe(0);
      expect(Object.values(order).flat()).toHaveLength(60);
      for (const numbers of Object.values(order)) expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
    }
  });
});

describe('A job that takes too long', () => {
  it('a job that exceeds its timeout is reported, its signal aborts, and its worker takes the job of another key', async () => {
    stopTime();
    const { background, lost } = start({ workers: 1, timeout: '10s' });
    let reason: unknown;
    let hasRun = false;
    await background.push(
      'a',
      ({ signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            reason = signal.reason;
            reject(signal.reason);
          });
        }),
    );
    await background.push('b', () => {
      hasRun = true;
    });
    await passTime(9_990);
    expect(hasRun).toBe(false);
    await passTime(20);
    expect(reason).toMatchObject({ code: 'ERR_REDIS_KIT_JOB_TIMEOUT' });
    expect(lost).toEqual([['ERR_REDIS_KIT_JOB_TIMEOUT', 'a']]);
    await background.flush();
    expect(hasRun).toBe(true);
  });

  it('a job that ignores its signal keeps its key until it ends', async () => {
    stopTime();
    const { background, lost } = start({ workers: 1, timeout: '10s' });
    const log: string[] = [];
    const push = gated(background, log);
    const stubborn = await push('a', 'a1');
    const [next, other] = [await push('a', 'a2'), await push('b', 'b1')];
    for (const gate of [next, other]) gate.open();
    await passTime(10_010);
    expect(log).toEqual(['a1 begins', 'b1 begins', 'b1 ends']);
    stubborn.open();
    await background.flush();
    expect(log.slice(3)).toEqual(['a1 ends', 'a2 begins', 'a2 ends']);
    expect(lost).toEqual([['ERR_REDIS_KIT_JOB_TIMEOUT', 'a']]);
  });

  it('a job behind one that never ends is reported after another timeout', async () => {
    stopTime();
    const { background, lost } = start({ workers: 1, queue: 1, timeout: '10s' });
    const log: string[] = [];
    const push = gated(background, log);
    const stubborn = await push('a', 'a1');
    await push('a', 'a2');
    const waiting = expect(push('a', 'a3')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_JOB_TIMEOUT' });
    await passTime(20_020);
    await waiting;
    expect(lost).toEqual([
      ['ERR_REDIS_KIT_JOB_TIMEOUT', 'a'],
      ['ERR_REDIS_KIT_JOB_TIMEOUT', 'a'],
    ]);
    await expect(push('a', 'a4')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_JOB_TIMEOUT' });
    await background.flush();
    stubborn.open();
    await turn();
    (await push('a', 'a5')).open();
    await background.flush();
    expect(log).toEqual(['a1 begins', 'a1 ends', 'a5 begins', 'a5 ends']);
  });
});

describe('A job with retries', () => {
  it('a job that fails runs again after growing pauses, up to its retries', async () => {
    stopTime();
    const { background, lost } = start({ retries: 2 });
    const at: number[] = [];
    const began = Date.now();
    await background.push('a', () => {
      at.push(Date.now() - began);
      throw new Error(`try ${at.length}`);
    });
    await passTime(1_000);
    await background.flush();
    expect(at).toHaveLength(3);
    const [first = 0, second = 0, third = 0] = at;
    expect(second - first).toBeGreaterThanOrEqual(50);
    expect(third - second).toBeGreaterThanOrEqual(100);
    expect(lost).toEqual([['try 3', 'a']]);
  });

  it('a job that succeeds at its second try is not reported', async () => {
    const { background, lost } = start({ retries: 1 });
    let tries = 0;
    await background.push('a', () => {
      if (++tries === 1) throw new Error('the first try');
    });
    await background.flush();
    expect([tries, lost]).toEqual([2, []]);
  });
});

describe('A script that uses jobs in the background', () => {
  it('a script that awaits flush() does not exit before the retry of a job, and exits after it', async () => {
    const { ended } = startProgram(`
      const jobs = createRedisKit({ url: 'memory:', logger: false }).background({ retries: 1 });
      let tries = 0;
      await jobs.push('a', () => {
        if (++tries === 1) throw new Error('the first try');
      });
      await jobs.flush();
      console.log(tries);
    `);
    expect(await ended).toEqual({ code: 0, said: '2' });
  });

  it('a script that awaits a push without space does not exit before the timeout of a job', async () => {
    const { ended } = startProgram(`
      const kit = createRedisKit({ url: 'memory:', logger: false });
      const jobs = kit.background({ workers: 1, queue: 1, timeout: 50 });
      await jobs.push('a', () => new Promise(() => undefined));
      for (const key of ['b', 'c']) await jobs.push(key, () => console.log(key));
      await jobs.flush();
    `);
    expect(await ended).toEqual({ code: 0, said: 'b\nc' });
  });
});

describe('Closing a kit with jobs', () => {
  it('kit.close() waits for the jobs in the queue, and later pushes reject', async () => {
    const { kit, background, lost } = start({ workers: 1 });
    const log: string[] = [];
    const gate = await gated(background, log)('a', 'a1');
    await background.push('b', () => log.push('b1'));
    const closed = kit.close({ timeout: '1m' });
    await expect(background.push('c', () => log.push('c1'))).rejects.toMatchObject({
      code: 'ERR_REDIS_KIT_CLOSED',
    });
    gate.open();
    await closed;
    expect(log).toEqual(['a1 begins', 'a1 ends', 'b1']);
    expect(lost).toEqual([]);
  });

  it('a job for which kit.close() waits may push, and may not when it has ended', async () => {
    const { kit, background, lost } = start();
    const log: string[] = [];
    const [opened, ended] = [new Gate(), new Gate()];
    const late = new Gate();
    await background.push('other', () => late.promise);
    await background.push('a', async () => {
      void ended.promise
        .then(() => background.push('c', () => log.push('c')))
        .catch((error: { readonly code?: string }) => log.push(error.code ?? ''))
        .finally(late.open);
      await opened.promise;
      await background.push('b', () => log.push('b'));
    });
    const closed = kit.close({ timeout: '1m' });
    opened.open();
    await turn();
    ended.open();
    await closed;
    expect(log).toEqual(['b', 'ERR_REDIS_KIT_CLOSED']);
    expect(lost).toEqual([]);
  });

  it('a job that outlasts the timeout of kit.close() is reported, and its signal aborts', async () => {
    const { kit, background, lost } = start({ workers: 1, queue: 1 });
    const signals: AbortSignal[] = [];
    await background.push('a', ({ signal }) => {
      signals.push(signal);
      return new Promise(() => undefined);
    });
    await background.push('b', () => expect.unreachable('it must not run'));
    const waiting = expect(background.push('c', () => undefined)).rejects.toMatchObject({
      code: 'ERR_REDIS_KIT_CLOSED',
    });
    await turn();
    await kit.close({ timeout: 20 });
    await waiting;
    expect(signals[0]?.aborted).toBe(true);
    expect(lost.sort()).toEqual([
      ['ERR_REDIS_KIT_CLOSED', 'a'],
      ['ERR_REDIS_KIT_CLOSED', 'b'],
    ]);
  });
});

describe('The options of kit.background', () => {
  it.each([
    [{ workers: 0 }, /option `workers` is 0; it must be a whole number from 1 to 10000/],
    [{ queue: 1.5 }, /option `queue` is 1.5/],
    [{ timeout: 'soon' }, /option `timeout` is 'soon'/],
    [{ onFull: 'drop' }, /option `onFull` is 'drop'; it must be one of 'wait', 'drop-oldest', 'reject'/],
    [{ retries: -1 }, /option `retries` is -1/],
    [{ onError: 1 }, /option `onError` is 1; it must be a function/],
    [{ concurrency: 5 }, /unknown option `concurrency`; it is `workers` here/],
  ])('kit.background refuses %o', (options, message) => {
    expect(() => kitForTest({ url: 'memory:' }).background(options as BackgroundOptions)).toThrow(message);
  });

  it.each([
    ['', () => undefined, /background.push: the key is ''/],
    ['a', undefined, /background.push: the job is undefined; it must be a function/],
  ])('background.push(%o, %o) rejects', async (key, job, message) => {
    await expect(start().background.push(key, job as never)).rejects.toThrow(message);
  });
});
