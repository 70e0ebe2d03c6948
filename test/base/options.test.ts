import { describe, expect, expectTypeOf, it } from 'vitest';
import { type Duration, durationMs, formatDuration } from '../../src/base/duration.ts';
import {
  ConfigError,
  ConnectionError,
  LockTimeoutError,
  RedisKitError,
  StoreError,
} from '../../src/base/errors.ts';
import { OptionReader } from '../../src/base/option-reader.ts';

const read = (options: unknown, known = ['limit', 'window', 'headers']) =>
  new OptionReader('kit.test', options, known);

describe('durationMs()', () => {
  it('durationMs() accepts a number of milliseconds and a number with a unit', () => {
    const spans: [Duration, number][] = [
      [1500, 1500],
      ['250ms', 250],
      ['30s', 30_000],
      ['5m', 300_000],
      ['12h', 43_200_000],
      ['7d', 604_800_000],
      ['0.1s', 100],
      ['1.5h', 5_400_000],
    ];
    for (const [text, ms] of spans) expect(durationMs(text)).toBe(ms);
  });

  it('durationMs() returns undefined for zero, negative numbers, fractions of a millisecond, infinity and free text', () => {
    for (const wrong of [
      0,
      -1,
      1.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      '0s',
      '-1s',
      '0.5ms',
      '1 m',
      '1w',
      '',
      's',
      null,
    ]) {
      expect(durationMs(wrong)).toBeUndefined();
    }
    expect(durationMs('40000d')).toBeUndefined();
  });

  it('the type Duration rejects an unknown unit', () => {
    expectTypeOf<'10s'>().toExtend<Duration>();
    expectTypeOf<'10x'>().not.toExtend<Duration>();
    expectTypeOf<'soon'>().not.toExtend<Duration>();
  });

  it('formatDuration() uses the largest unit that divides the duration', () => {
    expect([60_000, 90_000, 86_400_000, 1, 3_600_000].map(formatDuration)).toEqual([
      '1m',
      '90s',
      '1d',
      '1ms',
      '1h',
    ]);
  });
});

describe('RedisKitError', () => {
  it('a RedisKitError has the HTTP status of its response, unless the status is 500', () => {
    const both = (status: number) => ({ status, statusCode: status, expose: status < 500 });
    expect(new ConnectionError('x')).toMatchObject(both(503));
    expect(new StoreError('ERR_REDIS_KIT_TIMEOUT', 'x')).toMatchObject(both(503));
    expect(new LockTimeoutError('a', 'x')).toMatchObject(both(503));
    expect(new RedisKitError('ERR_REDIS_KIT_SESSION_LIMIT', 'x')).toMatchObject(both(409));
    for (const name of ['status', 'statusCode', 'expose']) expect(name in new ConfigError('x')).toBe(false);
  });
});

describe('OptionReader', () => {
  it('the error for an unknown option suggests a similar known option, or lists all known options', () => {
    expect(() => read({ limti: 1 })).toThrow('kit.test: unknown option `limti`; did you mean `limit`?');
    expect(() => read({ zzz: 1 })).toThrow('known options: limit, window, headers');
  });

  it('OptionReader treats an option whose value is undefined as absent', () => {
    expect(read({ limit: undefined, nonsense: undefined }).has('limit')).toBe(false);
  });

  it('the error for an invalid option shows a URL without its password', () => {
    for (const [url, shown] of [
      ['redis://ann:hush@host:1/0', 'redis://***@host:1/0'],
      ['redis://:hu@sh/hush@host', 'redis://***@host'],
      ['redis://hush@host', 'redis://***@host'],
      ['ann:hush@host', '***@host'],
      [`redis://:${'hush'.repeat(20)}@host`, 'redis://***@host'],
      ['ann@example.com', 'ann@example.com'],
      ['a:b', 'a:b'],
      ['ann@example.com:80', 'ann@example.com:80'],
    ] as const) {
      expect(() => read({ limit: url }).callback('limit')).toThrow(`\`limit\` is '${shown}';`);
      expect(() => read(url)).toThrow(`got '${shown}'`);
    }
  });

  it('OptionReader rejects options that are no object', () => {
    for (const wrong of [null, 1, 'x', []]) expect(() => read(wrong)).toThrow(ConfigError);
  });

  it('the error for an invalid option names the option, its value and the remedy', () => {
    const range = { min: 1, max: 10 };
    for (const limit of [0, -1, 11, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '5', true]) {
      expect(() => read({ limit }).integer('limit', range)).toThrow(
        `kit.test: option \`limit\` is ${typeof limit === 'string' ? `'${limit}'` : limit}; it must be a whole number from 1 to 10`,
      );
    }
    expect(() => read({ window: '5 minutes' }).duration('window')).toThrow(
      /`window` is '5 minutes'; .*'250ms'/,
    );
    for (const window of ['0.5ms', '1.0001s', '1h30m', '90', '1.5 h']) {
      expect(() => read({ window }).duration('window')).toThrow(
        `\`window\` is '${window}'; it must be a positive whole number of milliseconds or a string like '250ms', '30s', '5m', '1.5h' or '7d' that comes to one`,
      );
    }
    expect(() => read({ headers: 'x' }).oneOf('headers', ['a', false], 'a')).toThrow(`one of 'a', false`);
    expect(() => read({ headers: 'x' }).oneOf('headers', ['a', undefined, 'b'], undefined)).toThrow(
      /one of 'a', 'b'$/,
    );
    expect(() => read({ headers: 1 }).callback('headers')).toThrow('must be a function');
    expect(() => read({ headers: '' }).string('headers')).toThrow('not empty');
    expect(() => read({ headers: 'yes' }).boolean('headers', true)).toThrow('true or false');
  });
});
