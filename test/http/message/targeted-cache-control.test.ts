import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseTargeted } from '../../../src/http/message/targeted-cache-control.ts';

describe('a targeted field (RFC 9213, section 2.1)', () => {
  it('a targeted field is a dictionary of directives', () => {
    const directives = parseTargeted('max-age=600, must-revalidate, private="Set-Cookie, x"');
    expect(directives?.seconds('max-age')).toBe(600);
    expect(directives?.has('must-revalidate')).toBe(true);
    expect(directives?.fields('private')).toEqual(['set-cookie', 'x']);
    expect(directives?.has('no-store')).toBe(false);
    expect(directives?.seconds('s-maxage')).toBeUndefined();
    expect(directives?.fields('no-cache')).toBeUndefined();
    for (const name of ['constructor', '__proto__', 'size']) expect(directives?.has(name)).toBe(false);
  });

  it.each([undefined, '', ' ', '   ', '\t', [], ['']])('an empty targeted field is ignored: %j', (value) => {
    expect(parseTargeted(value)).toBeUndefined();
  });

  it.each([
    ',',
    'no-store,',
    ',no-store',
    'no-store,,max-age=5',
    'no-store max-age=5',
    'no-store; max-age=5,',
    'No-Store',
    'Max-Age=60',
    'max-age=',
    'max-age =60',
    'max-age= 60',
    'max-age=60s',
    'max-age=1.',
    'max-age=1.2345',
    'max-age=--1',
    'max-age=+1',
    `max-age=${'9'.repeat(16)}`,
    'max-age="60',
    'private="é"',
    'private="\\a"',
    'private=?2',
    'private=(a',
    '1=2',
    '"no-store"',
    'no-store\u0000',
    ['no-store', ''],
    ['', 'no-store'],
    ['x="a', 'b'],
    5,
  ])('an invalid targeted field is ignored: %j', (value) => {
    expect(parseTargeted(value)).toBeUndefined();
  });

  it.each([
    ['x=@1659578233, no-store', true],
    ['no-store, x=@-1', true],
    ['x;y=@1;z, no-store', true],
    ['x=(@1 @2), no-store', true],
    ['x="=@1, y", no-store', true],
    ['x=@1', false],
    ['no-store=@1', true],
  ])('a targeted field that contains a Date is parsed as a whole: %s', (value, forbidsStoring) => {
    expect(parseTargeted(value)?.has('no-store')).toBe(forbidsStoring);
  });

  it.each(['x=@', 'x=@1.5, no-store', 'x=@+1, no-store', `x=@${'9'.repeat(16)}, no-store`, '@1=x'])(
    'a targeted field with a malformed Date is invalid: %s',
    (value) => {
      expect(parseTargeted(value)).toBeUndefined();
    },
  );

  it('a directive whose value is a Date has no argument', () => {
    const directives = parseTargeted('max-age=@60, private=@60, public=@1');
    expect(directives?.seconds('max-age')).toBe('invalid');
    expect(directives?.fields('private')).toEqual([]);
    expect(directives?.has('public')).toBe(false);
  });

  it('a targeted field that has only unknown directives is not ignored (section 3.1)', () => {
    const directives = parseTargeted('none');
    expect(directives?.has('none')).toBe(true);
    expect(directives?.has('no-store')).toBe(false);
  });

  it('a targeted field can have several lines and surrounding whitespace (RFC 9651, section 4.2)', () => {
    const directives = parseTargeted(['\t max-age=5', 'public \t']);
    expect(directives?.seconds('max-age')).toBe(5);
    expect(directives?.has('public')).toBe(true);
  });

  it('the last value of a repeated directive is used (RFC 9651, section 4.2.2)', () => {
    expect(parseTargeted('max-age=5, max-age=6')?.seconds('max-age')).toBe(6);
    expect(parseTargeted('max-age=5.0, max-age=6')?.seconds('max-age')).toBe(6);
    expect(parseTargeted('max-age=6, max-age=5.0')?.seconds('max-age')).toBe('invalid');
    expect(parseTargeted('no-store, no-store=?0')?.has('no-store')).toBe(false);
  });

  it.each([
    ['max-age=0', 0],
    ['max-age=-0', 0],
    ['max-age=060', 60],
    ['max-age=2147483648', 2_147_483_647],
    [`max-age=${'9'.repeat(15)}`, 2_147_483_647],
    ['max-age=60;x=1.5', 60],
    ['max-age=60;x="1.5,max-age=2.0"', 60],
    ['x=1.5, max-age=60, y="max-age=2.0, \\", max-age=2.0"', 60],
    ['max-age=60, x=%"a,max-age=2.0\\"', 60],
  ])('an Integer is an age: %s', (value, expected) => {
    expect(parseTargeted(value)?.seconds('max-age')).toBe(expected);
  });

  it.each([
    'max-age',
    'max-age=?1',
    'max-age=?0',
    'max-age=-1',
    'max-age=60.0',
    'max-age=60.5',
    'x, \t max-age=60.0;y',
    'max-age="60"',
    'max-age=sixty',
    'max-age=(60)',
    'max-age=:NjA=:',
    'max-age=@60',
  ])('a value of another type is not coerced into an age: %s', (value) => {
    expect(parseTargeted(value)?.seconds('max-age')).toBe('invalid');
  });

  it.each([
    'no-store',
    'no-store=?1',
    'no-store;x=?0',
    'no-store=1',
    'no-store=0',
    'no-store="x"',
    'no-store=x',
    'no-store=()',
  ])('a restrictive directive is obeyed with any value but false: %s', (value) => {
    expect(parseTargeted(value)?.has('no-store')).toBe(true);
  });

  it('a Boolean false turns a directive off', () => {
    const directives = parseTargeted('private=?0, no-store=?0;x, max-age=5');
    expect(directives?.has('private')).toBe(false);
    expect(directives?.fields('private')).toBeUndefined();
    expect(directives?.has('no-store')).toBe(false);
  });

  it('a permissive directive is obeyed only as a Boolean', () => {
    for (const name of ['public', 'must-understand']) {
      expect(parseTargeted(name)?.has(name)).toBe(true);
      expect(parseTargeted(`${name}=?1;x`)?.has(name)).toBe(true);
      for (const value of ['?0', '1', '"x"', 'x', '()']) {
        expect(parseTargeted(`${name}=${value}`)?.has(name), value).toBe(false);
      }
    }
  });

  it('field names are read from a String only (RFC 9111, section 5.2.2.4); with another value the directive applies to the whole response', () => {
    expect(parseTargeted('no-cache="A,b , a"')?.fields('no-cache')).toEqual(['a', 'b']);
    for (const value of ['', '=?1', '=a', '=1', '=(a b)', '=""', '="a b"', '="a, (b)"', '=:YQ==:']) {
      expect(parseTargeted(`no-cache${value}`)?.fields('no-cache'), value).toEqual([]);
    }
  });

  it('parseTargeted() never throws', () => {
    const parts = fc.constantFrom(
      'max-age',
      '=',
      '1',
      '.',
      '"',
      ',',
      ' ',
      '?0',
      '(',
      ')',
      ';',
      ':',
      '%',
      '@',
      '\\',
    );
    const text = fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: parts }));
    fc.assert(
      fc.property(fc.oneof(text, fc.array(text)), text, (value, name) => {
        const directives = parseTargeted(value);
        const seconds = directives?.seconds(name);
        expect(seconds === undefined || seconds === 'invalid' || seconds >= 0).toBe(true);
        expect(directives?.fields(name) !== undefined).toBe(directives?.has(name) ?? false);
      }),
    );
  });
});
