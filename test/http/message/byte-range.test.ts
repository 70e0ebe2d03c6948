import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ifRangeMatches, rangeOf } from '../../../src/http/message/byte-range.ts';

describe('rangeOf() (RFC 9110, section 14.1.2)', () => {
  it.each([
    ['bytes=0-499', 0, 499],
    ['bytes=500-999', 500, 999],
    ['bytes=-500', 9_500, 9_999],
    ['bytes=9500-', 9_500, 9_999],
    ['bytes=0-', 0, 9_999],
    ['bytes=0-0', 0, 0],
    ['bytes=-1', 9_999, 9_999],
    ['bytes=9999-9999', 9_999, 9_999],
    ['bytes=000-0010', 0, 10],
  ])('rangeOf() reads the range %s of 10000 bytes', (header, start, end) => {
    expect(rangeOf(header, 10_000)).toEqual({ start, end });
  });

  it.each([
    ['bytes=5-10', 5, 9],
    ['bytes=0-99999999999999999999', 0, 9],
    [`bytes=0-${'9'.repeat(400)}`, 0, 9],
    ['bytes=-11', 0, 9],
    [`bytes=-${'9'.repeat(400)}`, 0, 9],
  ])('a range is cut at the end of the representation: %s of 10 bytes', (header, start, end) => {
    expect(rangeOf(header, 10)).toEqual({ start, end });
  });

  it.each(['bytes=10-', 'bytes=10-10', 'bytes=11-20', 'bytes=-0', 'bytes=-000', `bytes=${'9'.repeat(400)}-`])(
    'a range without any byte of the representation is unsatisfiable: %s of 10 bytes',
    (header) => {
      expect(rangeOf(header, 10)).toBe('unsatisfiable');
    },
  );

  it('a suffix range of an empty representation selects the whole, and any other range is unsatisfiable', () => {
    expect(rangeOf('bytes=-5', 0)).toBeUndefined();
    for (const header of ['bytes=0-', 'bytes=0-0', 'bytes=-0']) {
      expect(rangeOf(header, 0), header).toBe('unsatisfiable');
    }
  });

  it('a Range field can have its unit in any case (section 14.1), a space as in the examples, and empty members (section 5.6.1.2)', () => {
    for (const header of ['BYTES=2-4', 'Bytes=2-4', 'bytes= 2-4', 'bytes=2-4,', 'bytes=, ,2-4 ,\t,']) {
      expect(rangeOf(header, 10), header).toEqual({ start: 2, end: 4 });
    }
  });

  it.each([
    undefined,
    '',
    'bytes',
    'bytes=',
    'bytes=,',
    'bytes=-',
    'bytes=--1',
    'bytes=1',
    'bytes=a-b',
    'bytes=1-b',
    'bytes=1-2-3',
    'bytes=1 -2',
    'bytes=1- 2',
    'bytes=- 2',
    'bytes=+1-2',
    'bytes=1.0-2',
    'bytes=0x1-0x2',
    'bytes=1e0-2',
    'bytes=٠-١',
    'bytes=\u00a01-2',
    'bytes:1-2',
    'bytes 1-2',
    'bytes =1-2',
    ' bytes=1-2',
    'xbytes=1-2',
    'bytes=1-2\n',
    'bytes=1-2;x',
    'bytes=bytes=1-2',
  ])('the invalid Range field %j is ignored (section 14.2)', (header) => {
    expect(rangeOf(header, 10)).toBeUndefined();
  });

  it.each([
    'bytes=2-1',
    'bytes=20-10',
    'bytes=9007199254740993-9007199254740992',
    `bytes=1${'0'.repeat(400)}-2`,
  ])('a range that ends before it begins is invalid: %s', (header) => {
    expect(rangeOf(header, 10)).toBeUndefined();
  });

  it('a Range field with another unit or with several ranges is ignored (section 14.2)', () => {
    for (const header of ['items=0-1', 'none=0-1', 'bytes=0-1,3-4', 'bytes=0-1, 99-', 'bytes=0-1,x']) {
      expect(rangeOf(header, 10), header).toBeUndefined();
    }
  });

  it('rangeOf() always returns a range within the representation', () => {
    const number = fc.oneof(fc.constant(''), fc.nat(30).map(String), fc.bigInt({ min: 0n }).map(String));
    const header = fc.oneof(
      fc.tuple(number, number).map(([first, last]) => `bytes=${first}-${last}`),
      fc.string({ unit: fc.constantFrom('bytes=', '-', ',', ' ', '0', '9', 'x') }),
      fc.string({ unit: 'binary' }),
    );
    fc.assert(
      fc.property(header, fc.nat(30), (text, length) => {
        const range = rangeOf(text, length);
        if (typeof range !== 'object') return;
        expect(range.start).toBeGreaterThanOrEqual(0);
        expect(range.end).toBeGreaterThanOrEqual(range.start);
        expect(range.end).toBeLessThan(length);
      }),
    );
  });

  it('a long Range field is parsed quickly', () => {
    const started = process.cpuUsage();
    for (const text of [' ', '\t', ',', '0', '-', '0-', ' ,']) {
      rangeOf(`bytes=${text.repeat(20_000)}`, 10);
      rangeOf(`bytes=${text.repeat(20_000)}x`, 10);
      rangeOf(`bytes=0${text.repeat(20_000)}0-1`, 10);
    }
    expect(process.cpuUsage(started).user / 1_000, 'milliseconds of work').toBeLessThan(2_000);
  });
});

describe('If-Range (RFC 9110, section 13.1.5)', () => {
  const DATE = 'Sun, 06 Nov 1994 08:49:37 GMT';
  const LATER = 'Sun, 06 Nov 1994 08:49:38 GMT';

  it('a request without If-Range allows a partial response', () => {
    expect(ifRangeMatches(undefined, undefined, undefined)).toBe(true);
    expect(ifRangeMatches(undefined, '"a"', DATE, DATE)).toBe(true);
  });

  it('an entity tag in If-Range is compared strongly (section 8.8.3.2)', () => {
    expect(ifRangeMatches('"a"', '"a"', undefined)).toBe(true);
    expect(ifRangeMatches('""', '""', undefined)).toBe(true);
    expect(ifRangeMatches('"a,b"', '"a,b"', DATE)).toBe(true);
    for (const [header, etag] of [
      ['"a"', '"b"'],
      ['"a"', '"A"'],
      ['"a"', undefined],
      ['W/"a"', 'W/"a"'],
      ['W/"a"', '"a"'],
      ['"a"', 'W/"a"'],
      ['"a", "b"', '"a"'],
      ['"a", "b"', '"a", "b"'],
      ['"a', '"a'],
      ['"a b"', '"a b"'],
      ['a', 'a'],
      ['*', '"a"'],
      ['*', '*'],
      ['', ''],
    ] as const) {
      expect(ifRangeMatches(header, etag, DATE), `${header} ${etag}`).toBe(false);
    }
  });

  it('a date in If-Range must equal Last-Modified exactly, and a later date does not match', () => {
    expect(ifRangeMatches(DATE, undefined, DATE)).toBe(true);
    expect(ifRangeMatches(DATE, '"a"', DATE)).toBe(true);
    expect(ifRangeMatches(LATER, undefined, DATE)).toBe(false);
    expect(ifRangeMatches(DATE, undefined, LATER)).toBe(false);
    expect(ifRangeMatches('Sunday, 06-Nov-94 08:49:37 GMT', undefined, DATE)).toBe(false);
    expect(ifRangeMatches(DATE, undefined, undefined)).toBe(false);
    expect(ifRangeMatches('yesterday', undefined, 'yesterday')).toBe(false);
    expect(ifRangeMatches('', undefined, '')).toBe(false);
  });

  it('a date in If-Range matches only if the stored Date is at least a second later (section 8.8.2.2)', () => {
    expect(ifRangeMatches(DATE, undefined, DATE, LATER)).toBe(true);
    expect(ifRangeMatches(DATE, undefined, DATE, DATE)).toBe(false);
    expect(ifRangeMatches(LATER, undefined, LATER, DATE)).toBe(false);
    expect(ifRangeMatches(DATE, undefined, DATE, 'yesterday')).toBe(false);
    expect(ifRangeMatches('"a"', '"a"', DATE, DATE)).toBe(true);
  });

  it('an invalid validator in If-Range never throws and never matches', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(ifRangeMatches(text, text, text)).toBe(/^"[\x21\x23-\x7e\x80-\xff]*"$/.test(text));
      }),
    );
  });
});
