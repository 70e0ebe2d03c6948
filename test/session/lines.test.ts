import fc from 'fast-check';
import { expect, it } from 'vitest';
import { isSameContent } from '../../src/session/merge.ts';
import { entriesOfLines, isInLines, linesOf } from '../../src/session/operations/lines.ts';

const name = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', '"', '":', '\\', '\n"a":', '1', '__proto__'),
);
const value = fc.oneof(fc.jsonValue(), fc.constantFrom('\n', '",\n"a":', new Date(0), undefined, Number.NaN));
const entries = fc.uniqueArray(fc.tuple(name, value), { selector: ([each]) => each, maxLength: 8 });

it('the lines of an object are its JSON, and each key has the JSON of its value', () => {
  fc.assert(
    fc.property(entries, (each) => {
      const object = Object.fromEntries(each);
      const text = linesOf(object);
      expect(isInLines(text)).toBe(true);
      expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(object)));
      const json = Object.entries(object).flatMap(([key, single]) => {
        const own: string | undefined = JSON.stringify(single);
        return own === undefined ? [] : [[key, own] as const];
      });
      expect([...entriesOfLines(text)]).toEqual(json);
    }),
    { numRuns: 1_000 },
  );
});

it('contents are the same if they have the same keys and values in any order', () => {
  expect(isSameContent(linesOf({ a: 1, b: [2] }), linesOf({ b: [2], a: 1 }))).toBe(true);
  expect(isSameContent(linesOf({}), linesOf({ a: undefined }))).toBe(true);
  for (const other of [{ a: 1 }, { a: 1, b: [3] }, { a: 1, b: [2], c: null }, { a: 1, c: [2] }]) {
    expect(isSameContent(linesOf({ a: 1, b: [2] }), linesOf(other))).toBe(false);
  }
});

it('the lines of a session are without its cookie', () => {
  expect(linesOf({ cookie: {}, a: 1 }, 'cookie')).toBe('{\n"a":1}');
  expect(linesOf({ cookie: {} }, 'cookie')).toBe('{}');
});
