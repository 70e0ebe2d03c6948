import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalWeightedList } from '../../../src/http/message/weighted-list.ts';

describe('canonicalWeightedList()', () => {
  it.each([
    ['en, de', 'de, en'],
    ['en, de', 'eN ,\tDe'],
    ['en,de', ', en,, de ,'],
    ['en, de', 'de, en, EN'],
    ['de;q=0.5', 'de ; Q = 0.500'],
    ['de;q=1', 'de'],
    ['de;q=1.000', 'de;q=1.'],
    ['gzip;q=0, br', 'br, gzip;q=0.0'],
    ['', ' , '],
  ])('%j and %j have the same canonical form', (a, b) => {
    expect(canonicalWeightedList(a)).toBe(canonicalWeightedList(b));
  });

  it.each([
    ['en, de;q=0.5', 'en;q=0.5, de'],
    ['en', 'en;q=0'],
    ['en', 'en-GB'],
    ['en', ''],
    ['en', '*'],
    ['de;q=0.5', 'de;q=0.51'],
    ['de;q=0.5', 'de;q=.5'],
    ['de;q=1', 'de;q=1.5'],
    ['de;q', 'de'],
    ['de;x=1', 'de'],
  ])('%j and %j have different canonical forms', (a, b) => {
    expect(canonicalWeightedList(a)).not.toBe(canonicalWeightedList(b));
  });

  it('a canonical form does not change when it is normalized again', () => {
    const parts = fc.constantFrom('en', 'DE', ',', ';', 'q=', '0.5', '1.0', ' ', '\t', '*', '=');
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: parts })), (text) => {
        const canonical = canonicalWeightedList(text);
        expect(canonicalWeightedList(canonical)).toBe(canonical);
      }),
    );
  });
});
