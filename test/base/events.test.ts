import { runInNewContext } from 'node:vm';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { Emitter } from '../../src/base/emitter.ts';
import { type RedisKitError, StoreError } from '../../src/base/errors.ts';
import type { KitEvents } from '../../src/base/events.ts';
import { Reporter } from '../../src/base/reporter.ts';
import { kitForTest } from '../support/kits.ts';
import { keepingLogger } from '../support/stores.ts';

function make() {
  const logger = keepingLogger();
  const events = new Emitter<KitEvents>(logger);
  return { logger, events, reporter: new Reporter(events, logger) };
}

/** Sets the time of the process to that of its start, and returns a function that passes time. */
function turnTime(): (ms: number) => void {
  let now = 100;
  const spy = vi.spyOn(performance, 'now').mockImplementation(() => now);
  onTestFinished(() => spy.mockRestore());
  return (ms) => {
    now += ms;
  };
}

function levelLogger() {
  const lines: string[] = [];
  const keep = (level: string) => (message: string) => void lines.push(`${level}: ${message}`);
  const logger = { debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
  return { lines, logger };
}

const MISS = ['cache:miss', { url: '/' }] as const;

describe('kit.on', () => {
  it('an event calls each listener once, even if a listener adds or removes listeners', () => {
    const { events } = make();
    const calls: string[] = [];
    const stop = events.on('cache:miss', () => {
      calls.push('first');
      stop();
      events.on('cache:miss', () => calls.push('late'));
    });
    events.on('cache:miss', () => calls.push('second'));
    events.emit(...MISS);
    expect(calls).toEqual(['first', 'second']);
    events.emit(...MISS);
    expect(calls).toEqual(['first', 'second', 'second', 'late']);
  });

  it('the error of a listener is logged, and other listeners are still called', async () => {
    const { events, logger } = make();
    const calls: string[] = [];
    events.on('cache:miss', () => {
      throw new Error('at once');
    });
    events.on('cache:miss', async () => Promise.reject(new Error('later')));
    events.on('cache:miss', () => runInNewContext('Promise.reject(new Error())'));
    events.on('cache:miss', () => calls.push('heard'));
    events.emit(...MISS);
    await new Promise(setImmediate);
    expect(calls).toEqual(['heard']);
    const begin = "a listener for 'cache:miss' failed: Error";
    expect(logger.lines.map((line) => line.slice(0, begin.length))).toEqual(Array(3).fill(begin));
  });

  it('kit.on rejects unknown events, and listeners that are no functions', () => {
    const kit = kitForTest({ url: 'memory:' });
    const on = kit.on as (event: unknown, listener: unknown) => unknown;
    expect(() => on('cache:mis', () => 0)).toThrow(/no event 'cache:mis'; did you mean `cache:miss`\?/);
    expect(() => on('toString', () => 0)).toThrow(/known events: connection:up/);
    expect(() => on(undefined, () => 0)).toThrow("no event 'undefined'");
    expect(() => on('error', 'log it')).toThrow(
      /the listener for 'error' is 'log it'; it must be a function/,
    );
  });
});

describe('the reporter', () => {
  const timeout = () => new StoreError('ERR_REDIS_KIT_TIMEOUT', `too late at ${Math.random()}`);

  it('a failure is reported once per kind and feature until Redis recovers', () => {
    const { events, reporter } = make();
    const calls: string[] = [];
    events.on('error', ({ feature, error }) => calls.push(`${feature} ${error.message.slice(0, 5)}`));
    for (let times = 0; times < 3; times++) {
      reporter.failure('cache', timeout());
      reporter.failure('rate', timeout());
      reporter.failure('cache', new TypeError('x is not a function'));
      reporter.failure('cache', new TypeError('y is not a function'));
    }
    expect(calls).toEqual(['cache too l', 'rate too l', 'cache x is ', 'cache y is ']);
    events.emit('connection:up', { mode: 'standalone' });
    reporter.failure('cache', timeout());
    expect(calls).toHaveLength(5);
    // Only an outage ends when Redis is reachable.
    reporter.failure('cache', new TypeError('x is not a function'));
    expect(calls).toHaveLength(5);
  });

  it('a failure is reported again after 30 s, even if the system clock changes', () => {
    const { events, reporter } = make();
    const calls: RedisKitError[] = [];
    events.on('error', ({ error }) => calls.push(error as RedisKitError));
    const turn = turnTime();
    reporter.failure('cache', timeout());
    const clock = vi.spyOn(Date, 'now').mockReturnValue(0);
    onTestFinished(() => clock.mockRestore());
    turn(29_999);
    reporter.failure('cache', timeout());
    expect(calls).toHaveLength(1);
    turn(1);
    reporter.failure('cache', timeout());
    expect(calls).toHaveLength(2);
  });

  it('the reporter forgets its oldest messages after 1 MiB', () => {
    const { events, reporter } = make();
    let calls = 0;
    events.on('error', () => calls++);
    turnTime();
    // The reporter remembers one megabyte of messages.
    const text = (id: number) => `${id} ${'x'.repeat(1_000)}`;
    for (let id = 0; id <= 1_000; id++) {
      reporter.failure('cache', new TypeError(text(id)));
      reporter.warning(text(id));
    }
    reporter.failure('cache', new TypeError(text(0)));
    reporter.failure('cache', new TypeError(text(1_000)));
    expect(calls).toBe(1_002);
    expect(reporter.warning(text(0))).toBe(true);
    expect(reporter.warning(text(1_000))).toBe(false);
  });

  it('the end of an outage is logged at the level warn', () => {
    const { lines, logger } = levelLogger();
    const events = new Emitter<KitEvents>(logger);
    new Reporter(events, logger);
    events.emit('connection:up', { mode: 'cluster' });
    events.emit('connection:down', { error: new Error('gone') });
    events.emit('connection:breaker', { node: 'a:1', state: 'open' });
    events.emit('connection:breaker', { node: 'a:1', state: 'closed' });
    events.emit('connection:up', { mode: 'cluster' });
    expect(lines).toEqual([
      'info: connected to Redis (cluster)',
      'error: gone',
      'error: a:1 does not answer',
      'warn: a:1 answers again',
      'warn: connected to Redis again (cluster)',
    ]);
  });
});

describe('isNewlyDegraded()', () => {
  const breaker = (node: string, state: 'open' | 'closed') =>
    ['connection:breaker', { node, state }] as const;

  it('a feature is newly degraded once per outage, even if several nodes are down', () => {
    const { events, reporter } = make();
    const news = () => [reporter.isNewlyDegraded('rate'), reporter.isNewlyDegraded('rate')];
    expect(news()).toEqual([true, false]);
    events.emit(...breaker('a:1', 'open'));
    events.emit(...breaker('b:1', 'open'));
    events.emit('connection:down', { error: new Error('gone') });
    expect(news()).toEqual([false, false]);
    expect(reporter.isNewlyDegraded('another')).toBe(true);
    events.emit(...breaker('b:1', 'closed'));
    events.emit('connection:up', { mode: 'cluster' });
    expect(news(), 'connected, and one does not answer yet').toEqual([false, false]);
    events.emit(...breaker('a:1', 'closed'));
    expect(news()).toEqual([true, false]);
  });

  it('a feature is newly degraded again after 30 s without a failure, unless Redis is known to be down', () => {
    const { events, reporter } = make();
    const turn = turnTime();
    expect(reporter.isNewlyDegraded('rate')).toBe(true);
    turn(29_999);
    expect(reporter.isNewlyDegraded('rate')).toBe(false);
    turn(30_000);
    expect(reporter.isNewlyDegraded('rate')).toBe(true);
    events.emit('connection:down', { error: new Error('gone') });
    turn(3_600_000);
    expect(reporter.isNewlyDegraded('rate')).toBe(false);
  });
});
