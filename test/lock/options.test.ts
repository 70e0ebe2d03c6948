import { describe, expect, it } from 'vitest';
import type { LockOptions } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';

describe('The options of kit.lock', () => {
  const key = () => 'a';

  it.each([
    [undefined, 'options must be an object'],
    [{}, '`key`'],
    [{ key: 'order' }, "`key` is 'order'"],
    [{ key, lease: 0 }, '`lease` is 0'],
    [{ key, lease: '99ms' }, 'at least 100 ms'],
    [{ key, lease: '25d' }, 'at most 24 days'],
    [{ key, maxHold: '25d' }, 'at most 24 days'],
    [{ key, maxHold: -1 }, '`maxHold` is -1'],
    [{ key, onError: 'ignore' }, "`onError` is 'ignore'"],
    [{ key, handler: true }, '`handler`'],
    [{ key, onLost: 'x' }, '`onLost`'],
    [{ key, wait: -1 }, '`wait` is -1'],
    [{ key, wait: '25d' }, 'at most 24 days'],
    [{ key, fair: 'yes' }, '`fair`'],
    [{ key, leese: '5s' }, 'did you mean `lease`?'],
  ])('kit.lock rejects the invalid options %j', (options, part) => {
    const kit = kitForTest({ url: 'memory:' });
    expect(() => kit.lock(options as LockOptions)).toThrow(part);
  });

  it('kit.lock accepts `wait: 0`, and rejects a handler that is not a function', () => {
    const kit = kitForTest({ url: 'memory:' });
    expect(() => kit.lock({ key, wait: 0 })).not.toThrow();
    expect(() => kit.lock({ key }, 'handler' as never)).toThrow("the handler is 'handler'");
  });
});
