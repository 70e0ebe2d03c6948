import { expect, it } from 'vitest';
import { trimWhitespace } from '../../../src/http/message/optional-whitespace.ts';

it.each([
  ['', ''],
  [' \t ', ''],
  ['a', 'a'],
  [' \ta b\t ', 'a b'],
])('RFC 9110, section 5.6.3: %j without white space at its ends is %j', (text, trimmed) => {
  expect(trimWhitespace(text)).toBe(trimmed);
});

it.each(['\xa0', '\v', '\f', '\n', '\r', '\x85', '\ufeff', '\u2003'])(
  'the character %j is no white space of a field',
  (character) => {
    const text = `${character}a${character}`;
    expect(trimWhitespace(` ${text} `)).toBe(text);
  },
);
