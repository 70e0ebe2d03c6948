import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SessionContent } from '../../src/session/content.ts';
import { lineStart, textOf } from '../../src/session/operations/lines.ts';

const name = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 4 }),
  fc.constantFrom('', '"', '":', '\\', '\n"a":', '1', 'toString', '__proto__', 'a', 'b'),
);
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom('\n', '",\n"a":', new Date(0), undefined, Number.NaN, -0, () => 1, Symbol('s')),
);
const object = fc
  .uniqueArray(fc.tuple(name, value), { selector: ([each]) => each, maxLength: 6 })
  .map((entries) => Object.fromEntries(entries) as Record<string, unknown>);

/** The keys of an object with the JSON of their values. */
function jsonsOf(data: object): Map<string, string> {
  const jsons = Object.entries(data).map(([key, each]) => [key, JSON.stringify(each)] as const);
  return new Map(jsons.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** The content of data that was saved in lines and loaded again. */
function loadedFrom(data: object): SessionContent {
  const text = textOf(Array.from(jsonsOf(data), ([key, json]) => ({ start: lineStart(key), value: json })));
  return SessionContent.ofText(JSON.parse(text) as Record<string, unknown>, text);
}

describe.each([
  ['a loaded session', loadedFrom],
  ['the data of an object', (data: object) => SessionContent.of(data)],
])('the content of %s', (_, contentOf) => {
  it('the content has the JSON of each key, and no key that JSON omits', () => {
    fc.assert(
      fc.property(object, (data) => {
        const content = contentOf(data);
        expect(content.entries()).toEqual(jsonsOf(data));
        expect(content.isEmpty).toBe(jsonsOf(data).size === 0);
        expect(content.jsonOf('absent')).toBeUndefined();
      }),
      { numRuns: 500 },
    );
  });

  it('the content is that of a session with the same JSON in any order of keys, and of no other session', () => {
    fc.assert(
      fc.property(object, object, (data, other) => {
        const reordered = Object.fromEntries([['cookie', {}], ...Object.entries(data).reverse()]);
        expect(contentOf(data).isOf(reordered)).toBe(true);
        const [jsons, others] = [jsonsOf(data), jsonsOf(other)];
        const isSame =
          jsons.size === others.size && [...jsons].every(([key, json]) => others.get(key) === json);
        expect(contentOf(data).isOf(other)).toBe(isSame);
      }),
      { numRuns: 500 },
    );
  });

  it('the content differs in exactly the keys whose JSON differs', () => {
    fc.assert(
      fc.property(object, object, (data, later) => {
        const [before, after] = [jsonsOf(data), jsonsOf(later)];
        const keys = [...new Set([...before.keys(), ...after.keys()])];
        const expected = keys.filter((key) => before.get(key) !== after.get(key));
        expect(contentOf(data).changesTo(SessionContent.of(later))).toEqual(
          new Map(expected.map((key) => [key, after.get(key)])),
        );
      }),
      { numRuns: 500 },
    );
  });

  it('a value that was changed in place is noticed', () => {
    const data = { list: [1], nested: { a: { b: 1 } }, plain: 1 };
    const content = contentOf(data);
    const session = content.values as typeof data;
    expect(content.isOf(session)).toBe(true);
    session.nested.a.b = 2;
    expect(content.isOf(session)).toBe(false);
    expect([...content.changesTo(SessionContent.of(session))]).toEqual([['nested', '{"a":{"b":2}}']]);
    session.nested.a.b = 1;
    session.list.push(2);
    expect([...content.changesTo(SessionContent.of(session))]).toEqual([['list', '[1,2]']]);
  });
});

it('the content of a session is without its cookie', () => {
  expect([...SessionContent.of({ cookie: { path: '/' }, a: 1 }, 'cookie').entries()]).toEqual([['a', '1']]);
});
