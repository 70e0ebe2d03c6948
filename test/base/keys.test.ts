import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeId, featureOf, Keys } from '../../src/base/keys.ts';

describe('Keys', () => {
  it('a key has the form <prefix>:<feature>:{<id>}[:<part>]', () => {
    const keys = new Keys('shop');
    expect(keys.rate('ann', 'logins')).toBe('shop:rate:{ann}:logins');
    expect(keys.cache('host/path').entry).toBe('shop:cache:{host/path}');
    expect(keys.cache('host/path').fill).toBe('shop:cache:{host/path}:fill');
    expect(keys.cache('host/path').variant('x')).toBe('shop:cache:{host/path}:x');
    expect(keys.remembered('rates').entry).toBe('shop:cache:{rates}:value');
    expect(keys.cacheVersion(keys.cacheName('tag', 'news'))).toBe('shop:cache:{shop.v}:tag:news');
    expect(keys.cacheChannel()).toBe('shop:cache:{shop.v}:changes');
    expect(keys.cachePolicy('pages')).toBe('shop:cache:{pages}:policy');
    expect(keys.lock('order:7')).toEqual({
      lock: 'shop:lock:{order%3a7}',
      line: 'shop:lock:{order%3a7}:line',
      fence: 'shop:lock:{order%3a7}:fence',
    });
    expect(keys.callChannels()).toBe('shop:calls:');
    expect(keys.concurrency('ann', 'up:loads')).toEqual({
      slots: 'shop:concurrency:{ann}:up%3aloads',
      line: 'shop:concurrency:{ann}:up%3aloads:line',
    });
    expect(keys.namespace('tenant-7').lock('x').lock).toBe('shop:tenant-7:lock:{x}');
    expect(keys.idempotency('ann', 'k')).toMatch(/^shop:idempotency:\{\*[\w-]{43}\}$/);
    expect(keys.idempotencyChannel()).toBe('shop:idempotency:{shop}:ended');
  });

  it('the key of a session does not contain the session id', () => {
    expect(new Keys('shop').session('secret-id')).toMatch(/^shop:session:\{\*[\w-]{43}\}$/);
    expect(new Keys('shop').session('secret-id')).not.toContain('secret-id');
  });

  it('the key of an idempotency record hides the scope, and is unique per scope and key', () => {
    const keys = new Keys('shop');
    expect(keys.idempotency('auth:secret', 'k')).not.toContain('secret');
    expect(keys.idempotency('a', 'b:c')).not.toBe(keys.idempotency('a:b', 'c'));
    expect(keys.idempotency('a","b', 'c')).not.toBe(keys.idempotency('a', 'b","c'));
  });

  it('featureOf() finds the feature of a key with any prefix', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[\w.:-]{1,20}$/), fc.string({ unit: 'binary' }), (prefix, id) => {
        const keys = new Keys(prefix);
        expect(featureOf(keys.rate(id, 'p'))).toBe('rate');
        expect(featureOf(keys.session(id))).toBe('session');
        expect(featureOf(keys.lock(id).fence)).toBe('lock');
        expect(featureOf(keys.idempotency(id, id))).toBe('idempotency');
        expect(featureOf(keys.concurrency(id, id).line)).toBe('concurrency');
      }),
    );
  });

  it('a key prefix that contains glob characters or braces is rejected', () => {
    for (const prefix of ['', 'a b', 'a*', 'a{b}', 'a[b', 'ä', 'a\n']) {
      expect(() => new Keys(prefix)).toThrow(/prefix/);
    }
  });
});

describe('encodeId()', () => {
  const anyId = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({
      unit: fc.constantFrom('%', ':', '{', '}', '*', '?', 'a', '\ud800', '\udfff', '\0', '2', '5', 'u'),
    }),
    fc.string({ unit: 'grapheme', minLength: 30, maxLength: 90 }),
  );

  it('no two ids have the same encoded form', () => {
    fc.assert(
      fc.property(anyId, anyId, (a, b) => {
        expect(encodeId(a) === encodeId(b)).toBe(a === b);
      }),
      { numRuns: 5_000 },
    );
    const lone = ['\ud800', '\ud801', '\udc00', '\ufffd', '%ud800', '?', '', '*', encodeId('x'.repeat(65))];
    expect(new Set(lone.map(encodeId)).size).toBe(lone.length);
  });

  it('an encoded id is never empty, and contains no braces, no glob characters and no control characters', () => {
    fc.assert(
      fc.property(anyId, (id) => {
        const encoded = encodeId(id);
        expect(encoded).not.toBe('');
        expect(encoded.replace(/^[*?]/, '')).not.toMatch(/[:{}*?[\]\\\p{Cc}\p{Cs}]/u);
      }),
    );
  });

  it('an id that is longer than 64 bytes is hashed', () => {
    expect(encodeId('x'.repeat(64))).toBe('x'.repeat(64));
    expect(encodeId('x'.repeat(65))).toMatch(/^\*[\w-]{43}$/);
    expect(encodeId('ä'.repeat(33))).toMatch(/^\*[\w-]{43}$/);
  });
});
