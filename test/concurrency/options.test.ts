import { describe, expect, it } from 'vitest';
import type { ConcurrencyOptions } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';

describe('The options of kit.concurrency', () => {
  it.each([
    [undefined, 'options must be an object'],
    [{}, '`limit`'],
    [{ limit: 0 }, '`limit` is 0'],
    [{ limit: 1.5 }, 'from 1 to 1000000'],
    [{ limit: Number.POSITIVE_INFINITY }, '`limit` is Infinity'],
    [{ limit: '5' }, "`limit` is '5'"],
    [{ limit: 5, key: 'ann' }, '`key`'],
    [{ limit: 5, name: '' }, '`name`'],
    [{ limit: 5, lease: '99ms' }, 'at least 100 ms'],
    [{ limit: 5, wait: -1 }, '`wait` is -1'],
    [{ limit: 5, wait: '25d' }, 'at most 24 days'],
    [{ limit: 5, maxQueue: 5 }, 'no request waits without `wait`'],
    [{ limit: 5, wait: '5s', maxQueue: 0 }, '`maxQueue` is 0'],
    [{ limit: 5, onError: 'ignore' }, "`onError` is 'ignore'"],
    [{ limit: 5, handler: true }, '`handler`'],
    [{ limit: 5, limits: 1 }, 'did you mean `limit`?'],
  ])('kit.concurrency rejects the invalid options %j', (options, part) => {
    const kit = kitForTest({ url: 'memory:' });
    expect(() => kit.concurrency(options as ConcurrencyOptions)).toThrow(part);
  });

  it('kit.concurrency requires only the option `limit`; other options can be absent or undefined', () => {
    const kit = kitForTest({ url: 'memory:' });
    const nothing = {
      key: undefined,
      name: undefined,
      lease: undefined,
      wait: undefined,
      maxQueue: undefined,
    };
    expect(() => kit.concurrency({ limit: 5, ...nothing, onError: undefined })).not.toThrow();
    expect(() => kit.concurrency({ limit: () => 5, wait: 0 })).not.toThrow();
  });
});
