import { describe, expect, it } from 'vitest';
import type { LogOptions } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';

function logWith(options: Record<string, unknown>, name = 'chat') {
  return kitForTest({ url: 'memory:' }).log(name, { ttl: '1h', ...options } as LogOptions<unknown>);
}

describe('The options of kit.log', () => {
  it.each([
    [{ ttl: undefined }, /option `ttl` is undefined; it is required, for example '30d', or null/],
    [{ ttl: 0 }, /option `ttl` is 0; it must be a positive/],
    [{ limit: 0 }, /option `limit` is 0; it must be a whole number from 1 to 1000000/],
    [{ limit: 1.5 }, /option `limit` is 1.5/],
    [{ maxlen: 5 }, /unknown option `maxlen`; it is `limit` here/],
    [{ onAppend: () => undefined }, /option `onAppend` is a function; it must be an array of functions/],
    [{ onRead: ['a'] }, /option `onRead` is an array of 1; it must be an array of functions/],
    [{ onread: [] }, /unknown option `onread`; did you mean `onRead`/],
  ])('kit.log refuses %o', (options, message) => {
    expect(() => logWith(options)).toThrow(message);
  });

  it('kit.log names all wrong options in one error', () => {
    expect(() => logWith({ ttl: 'soon', limit: -1 })).toThrow(/2 options are wrong.*limit.*ttl/s);
  });

  it.each([null, '', 5])('kit.log refuses the name %o', (name) => {
    expect(() => logWith({}, name as string)).toThrow(
      /kit.log: the name is .*; it must be a string that is not empty/,
    );
  });
});

describe('The arguments of the methods of a log', () => {
  const log = () => logWith({});
  const anything = undefined as never;

  it.each([
    ['append', () => log().append('', 1), /log.append: the id is ''; it must be a string that is not empty/],
    ['append', () => log().append(anything, 1), /the id is undefined/],
    ['append', () => log().append('a', undefined), /log.append: the event is undefined, which JSON cannot/],
    ['append', () => log().append('a', 1n), /log.append: the event cannot be stored as JSON/],
    ['append', () => log().append('a', () => 1), /log.append: the event is function/],
    ['last', () => log().last('', 1), /log.last: the id/],
    ['last', () => log().last('a', 0), /log.last: `n` is 0; it must be a whole number from 1/],
    ['last', () => log().last('a', anything), /`n` is undefined/],
    [
      'after',
      () => log().after('a', anything),
      /log.after: the cursor is undefined; it must be the `cursor` of/,
    ],
    ['after', () => log().after('a', '5'), /the cursor is '5'/],
    ['after', () => log().after('a', '- 1'), /the cursor is '- 1'/],
    ['after', () => log().after('a', '18446744073709551615-0'), /the cursor is/],
    ['after', () => log().after('a', '0-0', -1), /log.after: `limit` is -1/],
    ['end', () => log().end(''), /log.end: the id/],
    ['clear', () => log().clear(''), /log.clear: the id/],
    ['follow', () => log().follow('', () => 1), /log.follow: the id/],
    ['follow', () => log().follow('a', anything), /log.follow: the listener is undefined/],
    ['follow', () => log().follow('a', () => 1, { after: 'x' }), /log.follow: the cursor is 'x'/],
    ['follow', () => log().follow('a', () => 1, { signal: {} as never }), /`signal` is an object/],
    ['follow', () => log().follow('a', () => 1, { from: 1 } as never), /unknown option `from`/],
  ])('%s() rejects a wrong argument with a ConfigError', async (_name, call, message) => {
    await expect(call()).rejects.toMatchObject({
      code: 'ERR_REDIS_KIT_CONFIG',
      message: expect.stringMatching(message),
    });
  });

  it('log.middleware() refuses an argument that is no function', () => {
    expect(() => log().middleware({} as never)).toThrow(/log.middleware: the argument is an object/);
  });
});
