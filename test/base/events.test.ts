import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { Events, type KitEvents } from '../../src/base/events.ts';
import { Reporter } from '../../src/base/reporter.ts';
import { kitForTest } from '../support/kits.ts';
import { keepingLogger } from '../support/stores.ts';

function make() {
  const logger = keepingLogger();
  const events = new Events<KitEvents>(logger);
  return { logger, events, reporter: new Reporter(events, logger) };
}

const MISS = ['cache:miss', { url: '/' }] as const;

describe('kit.on', () => {
  it('tells each listener once, also those that come and go meanwhile', () => {
    const { events } = make();
    const told: string[] = [];
    const stop = events.on('cache:miss', () => {
      told.push('first');
      stop();
      events.on('cache:miss', () => told.push('late'));
    });
    events.on('cache:miss', () => told.push('second'));
    events.emit(...MISS);
    expect(told).toEqual(['first', 'second']);
    events.emit(...MISS);
    expect(told).toEqual(['first', 'second', 'second', 'late']);
  });

  it('survives listeners that throw or reject, and logs it', async () => {
    const { events, logger } = make();
    const told: string[] = [];
    events.on('cache:miss', () => {
      throw new Error('at once');
    });
    events.on('cache:miss', async () => Promise.reject(new Error('later')));
    events.on('cache:miss', () => told.push('heard'));
    events.emit(...MISS);
    await new Promise(setImmediate);
    expect(told).toEqual(['heard']);
    expect(logger.lines).toEqual(Array(2).fill("a listener for 'cache:miss' failed"));
  });

  it('refuses events that there are not, and listeners that are none', () => {
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

describe('trouble', () => {
  const timeout = () => new StoreError('ERR_REDIS_KIT_TIMEOUT', `too late at ${Math.random()}`);

  it('is told once for each kind and room, and again after a recovery', () => {
    const { events, reporter } = make();
    const told: string[] = [];
    events.on('error', ({ room, error }) => told.push(`${room} ${error.message.slice(0, 5)}`));
    for (let times = 0; times < 3; times++) {
      reporter.failure('cache', timeout());
      reporter.failure('rate', timeout());
      reporter.failure('cache', new TypeError('x is not a function'));
      reporter.failure('cache', new TypeError('y is not a function'));
    }
    expect(told).toEqual(['cache too l', 'rate too l', 'cache x is ', 'cache y is ']);
    events.emit('connection:up', { mode: 'standalone' });
    reporter.failure('cache', timeout());
    expect(told).toHaveLength(5);
  });

  it('is heard of again by those whom it woke, when it is over', () => {
    const { events, logger } = make();
    events.emit('connection:up', { mode: 'standalone' });
    events.emit('connection:down', { error: new Error('gone') });
    events.emit('connection:up', { mode: 'standalone' });
    events.emit('connection:breaker', { node: 'a:1', state: 'open' });
    events.emit('connection:breaker', { node: 'a:1', state: 'closed' });
    expect(logger.lines).toEqual([
      'connected to Redis (standalone)',
      'gone',
      'connected to Redis again (standalone)',
      'a:1 does not answer',
      'a:1 answers again',
    ]);
  });

  it('makes a room degraded once, whatever its kinds, until it is over', () => {
    const { events, reporter } = make();
    const news = () => [reporter.isNewlyDegraded('rate'), reporter.isNewlyDegraded('rate')];
    expect(news()).toEqual([true, false]);
    events.emit('connection:breaker', { node: 'a:1', state: 'open' });
    expect(news()).toEqual([false, false]);
    events.emit('connection:breaker', { node: 'a:1', state: 'closed' });
    expect(news()).toEqual([true, false]);
  });
});
