import { describe, expect, it } from 'vitest';
import { kitForTest } from '../support/kits.ts';

const THREE = { algorithm: 'sliding-window', limit: 3, window: '1h', name: 'three' } as const;

describe('kit.rateLimit', () => {
  it('an invalid option is a ConfigError when the middleware is created', () => {
    const kit = kitForTest({ url: 'memory:' });
    const wrong: [object, RegExp][] = [
      [{ ...THREE, policies: [THREE] }, /`algorithm` .* beside `policies`/],
      [{ policies: [] }, /`policies` is an array of 0/],
      [
        { policies: [{ ...THREE, limit: 0 }] },
        /kit\.rateLimit\(\{ policies: \[0\] \}\): option `limit` is 0/,
      ],
      [
        { ...THREE, limit: () => 3, name: undefined },
        /`name` is undefined; it is required where the limit is a function/,
      ],
      [{ ...THREE, cost: -1 }, /`cost` is -1/],
      [{ ...THREE, key: 'ip' }, /`key` is 'ip'; it must be a function/],
      [{ ...THREE, ipv6Subnet: 129 }, /`ipv6Subnet` is 129/],
      [
        { ...THREE, headers: 'draft-7' },
        /`headers` is 'draft-7'; .*'draft-10', 'draft-8', 'draft-6', 'legacy'/,
      ],
      [{ ...THREE, onError: 'fail' }, /`onError` is 'fail'/],
      [{ ...THREE, onDenied: 'count', denyCache: {} }, /`denyCache`/],
      [{ ...THREE, denyCache: { maxAge: 0 } }, /`maxAge` is 0/],
      [{ ...THREE, block: 0 }, /`block` is 0; it must be a positive/],
      [{ ...THREE, block: -1, shadow: true }, /`block` is -1/],
      [{ ...THREE, block: 'forever' }, /`block` is 'forever'/],
      [{ ...THREE, blockDuration: 60 }, /it is `block` here/],
      [{ ...THREE, wait: -1 }, /`wait` is -1/],
      [{ ...THREE, wait: '30d' }, /`wait` is '30d'; it must be at most 24 days/],
      [{ ...THREE, maxQueue: 5 }, /`maxQueue` is 5; no request waits without `wait`/],
      [{ ...THREE, wait: '1s', maxQueue: 0 }, /`maxQueue` is 0/],
      [{ ...THREE, wait: '1s', onDenied: 'count' }, /`wait` is '1s'; with `onDenied: 'count'`/],
      [{ ...THREE, wait: '1s', block: '1m' }, /`wait` is '1s'; .* remove `block` or `wait`/],
      [
        { wait: '1s', policies: [THREE, { ...THREE, name: 'four', key: () => 'x' }] },
        /`wait` is '1s'; .* leave the `key` of the policies out/,
      ],
      [
        {
          algorithm: 'token-bucket',
          capacity: 1,
          refill: { tokens: 1_000_000_000, per: '1s' },
          wait: '24d',
        },
        /`wait` is '24d'; in ms, times the tokens of `refill`, it must not exceed 2\^51/,
      ],
      [
        { ...THREE, reserve: {} },
        /kit\.rateLimit\(\{ reserve \}\): option `units` is undefined; it is required/,
      ],
      [{ ...THREE, reserve: 3 }, /kit\.rateLimit\(\{ reserve \}\): options must be an object, got 3/],
      [{ ...THREE, reserve: { units: 0 } }, /`units` is 0/],
      [{ ...THREE, reserve: { units: 2, hold: 0 } }, /`hold` is 0; it must be a positive/],
      [{ ...THREE, reserve: { units: 2, hlod: 1 } }, /unknown option `hlod`; did you mean `hold`/],
      [{ ...THREE, reserve: { units: 4 } }, /`units` must not exceed the limit of 'three', 3/],
      [{ ...THREE, reserve: { units: 2 }, onDenied: 'count' }, /`reserve` .* with `onDenied: 'count'`/],
      [{ ...THREE, reserve: { units: 2 }, wait: '1s' }, /`wait` needs a command per request/],
      [{ ...THREE, reserve: { units: 2 }, block: '1s' }, /`block` needs a command per request/],
      [
        { reserve: { units: 1 }, policies: [{ ...THREE, key: () => 'x' }] },
        /`reserve` .* leave the `key` of the policies out/,
      ],
      [
        {
          algorithm: 'token-bucket',
          capacity: 10,
          refill: { tokens: 7, per: '1s' },
          name: 'seven',
          reserve: { units: 4 },
        },
        /the capacity of 'seven' less the 7 tokens that come back during `hold` must be at least `units`/,
      ],
      [{ ...THREE, hanlder: 1 }, /did you mean `handler`/],
    ];
    expect(() => kit.rateLimit({ ...THREE, windowMs: 5 } as never)).toThrow('it is `window` here');
    expect(() => kit.rateLimit({ ...THREE, keyGenerator: 5 } as never)).toThrow('it is `key` here');
    for (const [options, message] of wrong) expect(() => kit.rateLimit(options as never)).toThrow(message);
    expect(() => kit.rateLimit({ policies: [THREE, THREE] })).toThrow('exists already');
  });
});
