import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

/*
 * The rules of "How we write" in CONTRIBUTING.md that a regular expression can check, in prose, comments, messages and
 * test titles. Code is left alone.
 */

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (file: string) => readFileSync(join(root, file), 'utf8');

interface Rule {
  readonly pattern: RegExp;
  readonly reason: string;
}

/** Where a sentence begins. */
const START = String.raw`(?:^|[.!?]\s+)`;

const RULES: readonly Rule[] = [
  { pattern: /\bwho(?:m?ever)\b/i, reason: 'name the subject: the caller, another process' },
  {
    pattern: /(?:^|[.!?:;]\s+|\b(?:and|but|by|for|from|lets|of|or|than|to|until|with)\s)who\b(?![^.!?]*\?)/i,
    reason: '"who" without a noun before it: name the subject',
  },
  {
    pattern: new RegExp(String.raw`${START}What\b(?![^.!?]*\?)`),
    reason: 'a sentence begins with its subject, not with "what"',
  },
  {
    pattern: new RegExp(String.raw`${START}Of\s(?![^,.;:]*,\s)`),
    reason: 'a sentence begins with its subject, not with "of"',
  },
  { pattern: /\btold\b/i, reason: 'emitted, reported, notified or logged' },
  { pattern: /\banew\b/i, reason: 'again, or: refreshed, revalidated' },
  {
    pattern: /\b(?:any|every|some|no)body\b/i,
    reason: 'name the thing: a client, another process, no waiter',
  },
  { pattern: /\bvoid\b/i, reason: 'invalid' },
  { pattern: /\bstands?\b(?! for\b)/i, reason: 'is' },
  {
    pattern: /\bso (?:many|much|long|often)\b(?! as\b)(?![^.;:]*\bthat\b)/i,
    reason: 'name the number or the time: up to `limit`',
  },
  {
    pattern:
      /\b(?:is|are|was|were|be|been)(?: (?:not|no longer|still))? there\b(?! (?:a|an|any|is|are|no)\b)/i,
    reason: 'exists, is present, is available',
  },
  {
    pattern: /(?<!\b(?:leaves?|makes?|making|no)\s)\brooms?\b|\b(?:floors?|house|stand-ins?|twins?)\b/i,
    reason: 'feature or module; layer; in-process fallback; in-memory implementation',
  },
];

interface Sentence {
  readonly where: string;
  readonly text: string;
}

function violations(sentences: readonly Sentence[], rules: readonly Rule[] = RULES): readonly string[] {
  return sentences.flatMap(({ where, text }) =>
    rules
      .filter(({ pattern }) => pattern.test(text))
      .map(({ pattern, reason }) => `${where}: "${excerpt(text, pattern)}" (${reason})`),
  );
}

function excerpt(text: string, pattern: RegExp): string {
  const at = text.search(pattern);
  return text.slice(Math.max(0, at - 30), at + 50).trim();
}

/** Code in a sentence counts as a noun. */
function withoutCode(text: string): string {
  return text.replace(/`[^`]*`/g, 'X').replace(/\$\{[^}]*\}/g, 'X');
}

function filesIn(folder: string, extension: string): readonly string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(extension))
    .map((name) => `${folder}/${name}`)
    .sort();
}

function lineOf(text: string, at: number): number {
  return text.slice(0, at).split('\n').length;
}

/** The paragraphs, list items and table cells of a page, without headings and code. */
function proseOf(file: string): readonly Sentence[] {
  const text = read(file).replace(/```.*?```/gs, (code) => code.replace(/[^\n]/g, ''));
  return text.split('\n').flatMap((line, index) => {
    if (line.startsWith('#')) return [];
    const cells = line.startsWith('|') ? line.split(/(?<!\\)\|/) : [line.replace(/^\s*(?:[-*]|\d+\.)\s/, '')];
    return cells.map((cell) => ({
      where: `${file}:${index + 1}`,
      text: withoutCode(cell)
        .replace(/\]\([^)]*\)/g, '')
        .replace(/[[*]/g, '')
        .trim(),
    }));
  });
}

/** Blocks, runs of line comments, and comments of Lua. */
const COMMENT = /\/\*[\s\S]*?\*\/|(?:(?<=^|[\s;,{}()])\/\/.*\n?\s*)+|^\s*--\s.*$/gm;

/** Strings that read as sentences: they have at least three spaces. */
const MESSAGE = /'((?:\\.|[^'\\\n])*)'|"((?:\\.|[^"\\\n])*)"|`((?:\\.|[^`\\\n])*)`/g;

function commentsOf(file: string): readonly Sentence[] {
  const text = read(file);
  return [...text.matchAll(COMMENT)].map(({ 0: comment, index }) => ({
    where: `${file}:${lineOf(text, index)}`,
    text: withoutCode(comment.replace(/^\s*(?:\/\*\*?|\*\/|\*|\/\/|--)/gm, ' '))
      .replace(/\*\/\s*$/, '')
      .replace(/\s+/g, ' ')
      .trim(),
  }));
}

function messagesOf(file: string): readonly Sentence[] {
  const text = read(file).replace(COMMENT, (comment) => comment.replace(/[^\n]/g, ''));
  return [...text.matchAll(MESSAGE)]
    .map(({ 1: single, 2: double, 3: template, index }) => ({
      where: `${file}:${lineOf(text, index)}`,
      text: withoutCode(single ?? double ?? template?.replaceAll('\\`', '`') ?? ''),
    }))
    .filter(({ text: message }) => message.split(' ').length > 3);
}

const TITLE =
  /(?:\b(it|test|describe\w*|onEveryStore)(?:\.\w+)*(?:<[^>(]*>)?\(|\b(it|test|describe)\.each\b[^'"`]{0,40}\)\(|\]\)\()\s*(['"`])((?:\\.|(?!\3).)*)\3/g;

function titlesOf(file: string): readonly (Sentence & { readonly isGroup: boolean })[] {
  const text = read(file);
  return [...text.matchAll(TITLE)].map(({ 1: direct, 2: each, 4: title = '', index }) => ({
    where: `${file}:${lineOf(text, index)}`,
    text: withoutCode(title),
    isGroup: !/^(?:it|test)$/.test(direct ?? each ?? 'it'),
  }));
}

const words = (list: string) => list.trim().replaceAll(/\s+/g, '|');

/** Verbs with which no title begins that has a subject; those that are nouns as well are left out. */
const VERBS = words(`
  aborts accepts adds admits allows answers are asks authenticates becomes been begins blocks brings can cannot charges closes
  comes compares concerns confirms continues could counts decides depends did do does drops emits ends evicts expires fails
  finds follows forgets gets gives goes grants had has have hears heeds hides holds ignores imports includes invalidates is
  joins justifies keeps knows lasts leaves lets lies listens lists lives loads loses makes matches may meets merges might
  moves must needs never notices notifies offers outlasts outlives passes penalizes permits prevents reaches reads refreshes
  refuses rejects releases remembers removes renews repairs replaces requires resolves responds returns revokes runs satisfies
  says sees sends serves sets shares should shows skips spares spells stands starts stays stops stores survives takes tells
  throws turns uses varies waits wants warns was were will wins withholds works would writes`);

/** These join a title to a line above it. */
const CONNECTIVES = words(`
  also and because but else even how however nor not once or otherwise since so softly still that then therefore though too
  what where whether which who whose why yet`);

/** A sentence may begin with these if its subject follows after a comma. */
const OPENERS = words(`
  above after although as at before below beside between by during for from if in into like of on outside over past per to
  under unless until up upon when while with within without`);

const TEST_TITLES: readonly Rule[] = [
  { pattern: new RegExp(`^(?:${VERBS})\\b`), reason: 'a test title begins with its subject' },
  { pattern: new RegExp(`^(?:${CONNECTIVES})\\b`), reason: 'a test title is understood alone' },
  { pattern: new RegExp(`^(?:${OPENERS})\\b(?!.*, )`), reason: 'a test title has a subject' },
];

const GROUP_TITLES: readonly Rule[] = [
  { pattern: new RegExp(`^(?:${VERBS}|${CONNECTIVES}|of)\\b`), reason: 'a describe title names its subject' },
];

const sources = filesIn('src', '.ts');
const tests = filesIn('test', '.ts');

describe('the rules of CONTRIBUTING.md about words', () => {
  it('the README, docs/ and the other pages of the project follow the rules', () => {
    const pages = [
      'README.md',
      'CONTRIBUTING.md',
      'CHANGELOG.md',
      'SECURITY.md',
      ...filesIn('docs', '.md'),
      ...filesIn('examples', '.md'),
    ];
    expect(violations(pages.flatMap(proseOf))).toEqual([]);
  });

  it('the comments of src/ and examples/ follow the rules', () => {
    const comments = [...sources, ...filesIn('examples', '.ts')].flatMap(commentsOf);
    expect(comments.length).toBeGreaterThan(500);
    expect(violations(comments)).toEqual([]);
  });

  it('the messages of src/ and examples/ follow the rules', () => {
    const messages = [...sources, ...filesIn('examples', '.ts')].flatMap(messagesOf);
    expect(messages.length).toBeGreaterThan(100);
    expect(violations(messages)).toEqual([]);
  });

  it('every test title follows the rules', () => {
    const titles = tests.flatMap(titlesOf);
    expect(titles.length).toBeGreaterThan(1_000);
    expect(violations(titles)).toEqual([]);
  });

  it('every test title is a sentence with a subject', () => {
    const titles = tests.flatMap(titlesOf);
    const groups = titles.filter(({ isGroup }) => isGroup);
    const single = titles.filter(({ isGroup }) => !isGroup);
    expect([...violations(single, TEST_TITLES), ...violations(groups, GROUP_TITLES)]).toEqual([]);
  });
});
