import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Glob } from '../../src/engine/glob.ts';
import { redisUrl } from '../support/context.ts';
import { withPlainClient } from '../support/plain-client.ts';

const TEXTS = [
  ...['a', 'b', 'c', 'ab', 'ba', 'abc', 'acb', 'aab', 'abab', 'bbba', 'cabac', 'aaaaaaaa'],
  ...['-', '^', ']', '[', '\\', '*', '?', 'a-', '-b', '^a', 'a]', 'a[b', 'a\\b', 'a*b', '[a]', '\\*'],
  ...['é', 'aé', 'éa', '☃', 'a\n', '\0', ' '],
];

const PATTERNS = [
  ...['*', '**', '?', '??', '*a', 'a*', '*a*', 'a*b', 'a*b*', '*?', '?*', 'a**b', '***a'],
  ...[
    '[a]',
    '[ab]',
    '[a-c]',
    '[c-a]',
    '[^a]',
    '[^a-b]',
    '[]',
    '[]]',
    '[^]',
    '[^]]',
    '[-]',
    '[a-]',
    '[a-]]',
    '[--^]',
  ],
  ...[
    '[\\]]',
    '[\\-a]',
    '[a\\-c]',
    '[\\^a]',
    '[a-\\]',
    '[abc',
    '[^abc',
    '[',
    '[^',
    '[a-',
    '[\\',
    'a[b',
    '*[b-c]*',
  ],
  ...['\\*', '\\?', '\\[a]', '\\a', '\\\\', '\\', 'a\\', '*\\', '*\\b', ']', 'a]'],
  ...['é', '??', '[é]', '[é][é]', '*é', 'é*', '☃', '???', '\\☃', '[☃]*', 'a\n', ' ', '*\0'],
];

it('patterns match in memory as they do in Redis', async () => {
  const part = fc.constantFrom('a', 'b', 'c', '*', '?', '[', ']', '^', '-', '\\', '[a-c]', '[^b]');
  const random = fc.sample(
    fc.array(part, { minLength: 1, maxLength: 8 }).map((parts) => parts.join('')),
    400,
  );
  await withPlainClient(redisUrl(), async (client) => {
    const prefix = `outside-${randomUUID()}:`;
    await client.subscribe(
      TEXTS.map((text) => prefix + text),
      () => undefined,
    );
    await Promise.all(
      [...PATTERNS, ...random].map(async (pattern) => {
        const channels = await client.pubSubChannels(prefix + pattern);
        const glob = new Glob(prefix + pattern);
        const matched = TEXTS.filter((text) => glob.matches(prefix + text));
        expect(matched.sort(), pattern).toEqual(channels.map((name) => name.slice(prefix.length)).sort());
      }),
    );
  });
});

it('a pattern with many asterisks takes no exponential time', () => {
  const text = 'a'.repeat(512);
  // With plain backtracking, a comparison would take longer than the age of the universe.
  expect(new Glob(`${'*a'.repeat(255)}*b`).matches(text)).toBe(false);
  expect(new Glob(`${'*a'.repeat(255)}*`).matches(text)).toBe(true);
  expect(new Glob(`${'*[^b]?'.repeat(85)}b`).matches(text)).toBe(false);
});

it.each([
  ['a*b', true],
  ['[a-c]', true],
  ['[]', true],
  ['\\[', true],
  ['[\\]]', true],
  ['[a', false],
  ['[a-]', false],
  ['[^\\]', false],
  ['a\\', false],
])('the pattern %s is complete: %s', (pattern, isComplete) => {
  expect(new Glob(pattern).isComplete).toBe(isComplete);
});
