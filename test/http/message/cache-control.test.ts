import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseCacheControl } from '../../../src/http/message/cache-control.ts';

const RESTRICTIVE = ['no-store', 'private', 'no-cache', 'must-revalidate', 'proxy-revalidate'] as const;

const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({
    unit: fc.constantFrom('a', '=', '"', ',', ' ', '\t', '\\', ';', '1', '\n', 'max-age', 'no-store'),
    maxLength: 40,
  }),
);
const withoutQuotes = anyText.map((text) => text.replaceAll('"', ''));

describe('the list of directives (RFC 9111, section 5.2)', () => {
  it('is empty without the field, and without members', () => {
    for (const value of [undefined, '', ' ', ',', ' , ,\t,', [], ['', '']]) {
      const directives = parseCacheControl(value);
      expect(directives.has('no-store')).toBe(false);
      expect(directives.has('')).toBe(false);
      expect(directives.seconds('max-age')).toBeUndefined();
      expect(directives.fields('private')).toBeUndefined();
    }
  });

  it('has names in any case, also those that nobody knows', () => {
    const directives = parseCacheControl('Public, MAX-AGE=60, x-Ours, prototype, __proto__=1');
    for (const name of ['public', 'max-age', 'x-ours', 'prototype', '__proto__']) {
      expect(directives.has(name), name).toBe(true);
    }
    for (const name of ['constructor', 'tostring', 'no-store', 'max', 'age', '60']) {
      expect(directives.has(name), name).toBe(false);
    }
    expect(directives.seconds('max-age')).toBe(60);
  });

  it('may have whitespace and empty members around commas (RFC 9110, section 5.6.1.2)', () => {
    const directives = parseCacheControl(' ,\tno-transform ,, max-age=5\t,public , ');
    expect(directives.has('no-transform')).toBe(true);
    expect(directives.has('public')).toBe(true);
    expect(directives.seconds('max-age')).toBe(5);
  });

  it('goes on over several field lines (RFC 9110, section 5.3)', () => {
    const directives = parseCacheControl(['public', '', 'max-age=60, s-maxage="90"', 'private="a"']);
    expect(directives.has('public')).toBe(true);
    expect(directives.seconds('max-age')).toBe(60);
    expect(directives.seconds('s-maxage')).toBe(90);
    expect(directives.fields('private')).toEqual(['a']);
  });

  it('has commas, quoted pairs and names inside of quotes that are none of its own (RFC 9110, section 5.6.4)', () => {
    const directives = parseCacheControl(
      String.raw`x="a, no-store, \", private=\\", max-age="\6\0", y="" , z="é"`,
    );
    expect(directives.has('no-store')).toBe(false);
    expect(directives.has('private')).toBe(false);
    expect(directives.seconds('max-age')).toBe(60);
    for (const name of ['x', 'y', 'z']) expect(directives.has(name), name).toBe(true);
  });

  it('takes what setHeader takes', () => {
    expect(parseCacheControl(0).has('0')).toBe(true);
  });
});

describe('delta-seconds (RFC 9111, section 1.2.2)', () => {
  it.each([
    ['max-age=0', 0],
    ['max-age=60', 60],
    ['max-age=007', 7],
    ['max-age="60"', 60],
    ['max-age=2147483646', 2_147_483_646],
    ['max-age=2147483648', 2_147_483_647],
    [`max-age=${'9'.repeat(400)}`, 2_147_483_647],
  ])('%s is a time', (value, expected) => {
    expect(parseCacheControl(value).seconds('max-age')).toBe(expected);
  });

  it.each([
    'max-age',
    'max-age=',
    'max-age=""',
    'max-age=-1',
    'max-age="-1"',
    'max-age=+1',
    'max-age=1.5',
    'max-age=1e3',
    'max-age=0x10',
    'max-age=60s',
    'max-age=six',
    'max-age=" 60"',
    'max-age="6,0"',
    "max-age='60'",
    'max-age=٣',
    'max-age =60',
    'max-age= 60',
    'max-age = 60',
    'max-age:60',
    'max-age=60 0',
    'max-age=60; public',
    'max-age="60',
    'max-age=60"',
    'max-age="60"0',
    'public max-age=60',
    'max-age=60 must-revalidate',
    'max-age==60',
  ])('%s is none, and so stale (section 4.2.1)', (value) => {
    expect(parseCacheControl(value).seconds('max-age')).toBe('invalid');
    expect(parseCacheControl(`public, ${value}`).seconds('max-age')).toBe('invalid');
    expect(parseCacheControl(`max-age=60, ${value}`).seconds('max-age')).toBe('invalid');
  });

  it('that come twice are good when they are the same, and invalid when they differ (section 4.2.1)', () => {
    expect(parseCacheControl('max-age=60, MAX-AGE="060"').seconds('max-age')).toBe(60);
    expect(parseCacheControl('max-age=60, max-age=61').seconds('max-age')).toBe('invalid');
    expect(parseCacheControl(['max-age=60', 'max-age=0']).seconds('max-age')).toBe('invalid');
    expect(parseCacheControl('max-age=4294967296, max-age=4294967297').seconds('max-age')).toBe(
      2_147_483_647,
    );
  });

  it('of one directive are not those of another', () => {
    const directives = parseCacheControl('max-age=60, s-maxage=x');
    expect(directives.seconds('max-age')).toBe(60);
    expect(directives.seconds('s-maxage')).toBe('invalid');
    expect(directives.seconds('stale-while-revalidate')).toBeUndefined();
  });
});

describe('field names (RFC 9111, sections 5.2.2.4 and 5.2.2.7)', () => {
  it.each<readonly [string, readonly string[] | undefined]>([
    ['public', undefined],
    ['private="Set-Cookie"', ['set-cookie']],
    ['private="a, B ,,\tc"', ['a', 'b', 'c']],
    ['private=token-form', ['token-form']],
    ['private="a", max-age=5, private="b,a"', ['a', 'b']],
  ])('of %s', (value, expected) => {
    expect(parseCacheControl(value).fields('private')).toEqual(expected);
  });

  it.each([
    'private',
    'private=""',
    'private=" , "',
    'private="a b"',
    'private="a, (b)"',
    'private="a:"',
    'private=',
    'private="a',
    'private = "a"',
    'private="a", private',
    'private="a", private="b c"',
    'private="a", x private',
    'private="a"; x',
  ])('are none in %s, which so counts as a whole', (value) => {
    expect(parseCacheControl(value).has('private')).toBe(true);
    expect(parseCacheControl(value).fields('private')).toEqual([]);
  });
});

describe('what is no directive (RFC 9111, section 5.2)', () => {
  it.each([
    '%s =1',
    '%s= 1',
    '%s=',
    '%s;',
    '%s; max-age=5',
    '%s max-age=5',
    '%s(x)',
    '%s"',
    '%s="',
    '%s="x',
    '%s="x"y',
    '%s="x\\',
    '%s="x\\"',
    '%s="\u0000"',
    '%s="☃"',
    '%s=a=b',
    '%s=@',
    '; %s',
    'public %s',
    '"%s',
    '"%s"',
    '@%s@',
    'x="a, %s',
    'x="a, %s, y="b"',
    'x="a\\", %s',
    'x"y", %s',
    ', ,"," %s',
    'x=", %s=1',
  ])('hides no directive that restricts: %j', (pattern) => {
    for (const name of RESTRICTIVE) {
      const value = pattern.replace('%s', name);
      for (const each of [value, value.toUpperCase(), `public, ${value}`, [value, 'max-age=5']]) {
        expect(parseCacheControl(each).has(name), String(each)).toBe(true);
        expect(parseCacheControl(each).fields(name), String(each)).toEqual([]);
      }
    }
  });

  it('does not make one quoted-string of several lines', () => {
    expect(parseCacheControl(['x="a', 'no-store', '"']).has('no-store')).toBe(true);
    expect(parseCacheControl(['x="a', 'public', 'b="c"']).has('public')).toBe(false);
  });

  it('allows nothing that a directive would', () => {
    for (const value of ['public =1', 'x public', 'x="a, public', 'must-understand;', '"public"']) {
      expect(parseCacheControl(value).has('public'), value).toBe(false);
      expect(parseCacheControl(value).has('must-understand'), value).toBe(false);
    }
    expect(parseCacheControl('x="a, max-age=5').seconds('max-age')).toBe('invalid');
  });

  it('ends at the next comma as long as no quote is in it', () => {
    const directives = parseCacheControl('a b, public, ; , max-age=5, @');
    expect(directives.has('public')).toBe(true);
    expect(directives.seconds('max-age')).toBe(5);
    expect(directives.has('a')).toBe(false);
  });

  it('is not found in longer names', () => {
    const directives = parseCacheControl('x-no-store y, no-store-x;, privateer!');
    for (const name of RESTRICTIVE) expect(directives.has(name), name).toBe(false);
  });

  it('never throws, whatever the text', () => {
    fc.assert(
      fc.property(fc.oneof(anyText, fc.array(anyText)), anyText, (value, name) => {
        const directives = parseCacheControl(value);
        const seconds = directives.seconds(name);
        expect(seconds === undefined || seconds === 'invalid' || seconds >= 0).toBe(true);
        expect(directives.fields(name) !== undefined).toBe(directives.has(name));
      }),
    );
  });

  it('hides no directive on a line of its own, nor in front of text without quotes', () => {
    fc.assert(
      fc.property(anyText, anyText, withoutQuotes, (before, after, plain) => {
        expect(parseCacheControl([before, 'no-store', after]).has('no-store')).toBe(true);
        expect(parseCacheControl(`${before},no-store,${plain}`).has('no-store')).toBe(true);
      }),
    );
  });

  it('takes no time to find out', () => {
    const much = 100_000;
    const started = process.cpuUsage();
    for (const text of [' ', 'a', 'a=', 'a,', 'a"', '\\', ' ,', 'a;', 'a="\\"']) {
      parseCacheControl(`${text.repeat(much)};`).has('no-store');
      parseCacheControl(`x="${text.repeat(much)}`).has('no-store');
      parseCacheControl(`private="${text.replaceAll(/["\\]/g, '').repeat(much)};"`).fields('private');
    }
    expect(process.cpuUsage(started).user / 1_000, 'milliseconds of work').toBeLessThan(5_000);
  });
});
