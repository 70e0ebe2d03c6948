import { readdirSync, readFileSync } from 'node:fs';
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { encodeId } from '../../src/base/keys.ts';
import { requestDirectives } from '../../src/cache/http/acceptance.ts';
import type { KeySettings } from '../../src/cache/http/key-options.ts';
import { requestKey } from '../../src/cache/http/request-key.ts';
import { varyValues } from '../../src/cache/http/vary.ts';
import { networkOf } from '../../src/http/client-address.ts';
import { ifRangeMatches, rangeOf } from '../../src/http/message/byte-range.ts';
import { parseCacheControl } from '../../src/http/message/cache-control.ts';
import { isNotModified } from '../../src/http/message/conditional-request.ts';
import { parseHttpDate } from '../../src/http/message/http-date.ts';
import { trimWhitespace } from '../../src/http/message/optional-whitespace.ts';
import { parseTargeted } from '../../src/http/message/targeted-cache-control.ts';
import { fingerprintOf } from '../../src/idempotency/fingerprint.ts';
import { keyOf } from '../../src/idempotency/key-header.ts';
import { createRedisKit, type Req, type Res } from '../../src/index.ts';

const SRC = fileURLToPath(new URL('../../src', import.meta.url));

/** The limit of Node for the headers of a request. */
const BYTES = 16_384;

const KEY: KeySettings = {
  custom: undefined,
  host: true,
  query: { only: new Set(['page']) },
  headers: ['accept'],
  cookies: ['a'],
  session: undefined,
  secretNames: '[["accept"],["a"],false]',
};

const session = createRedisKit({ url: 'memory:', logger: false }).session({ secret: 'not a secret' });

function requestOf(headers: IncomingMessage['headers'], url = '/'): IncomingMessage {
  const req = new IncomingMessage(new Socket());
  return Object.assign(req, { method: 'GET', url, headers });
}

/** Functions that parse text of a client. The tests ignore their results. */
const PARSERS: Readonly<Record<string, (text: string) => unknown>> = {
  'white space around a part of a field': (text) => trimWhitespace(text),
  'the values of Vary': (text) => varyValues('accept-encoding', { 'accept-encoding': text }),
  'Cache-Control of a request': (text) => requestDirectives({ 'cache-control': text }),
  'field names in Cache-Control': (text) => parseCacheControl(`private="${text}"`).fields('private'),
  'a targeted Cache-Control': (text) => parseTargeted(text)?.seconds('max-age'),
  Range: (text) => rangeOf(text, 1_000),
  'If-Range': (text) => ifRangeMatches(text, '"a"', undefined),
  'If-None-Match': (text) => isNotModified(requestOf({ 'if-none-match': text }), { etag: '"a"' }),
  'an HTTP-date': (text) => parseHttpDate(text),
  'a client address': (text) => networkOf(text, 56),
  'Idempotency-Key': (text) => keyOf(text),
  'the content type of a body': (text) =>
    fingerprintOf(Object.assign(requestOf({ 'content-type': text }), { body: { a: 1 } }), undefined),
  'the host in a key': (text) => requestKey(requestOf({ host: text }), KEY),
  'the URL in a key': (text) => requestKey(requestOf({ host: 'a' }, text), KEY),
  'the cookies in a key': (text) => requestKey(requestOf({ host: 'a', cookie: text }), KEY),
  'a forwarded host in a key': (text) => {
    const app = { get: () => () => true };
    return requestKey(Object.assign(requestOf({ 'x-forwarded-host': text }), { app }), KEY);
  },
  'the cookie of a session': (text) => {
    const req = requestOf({ cookie: `connect.sid=s%3A${text}` });
    session(req as Req, new ServerResponse(req) as Res, () => undefined);
  },
  'an id in a Redis key': (text) => encodeId(text),
};

const UNITS = [
  ...[
    ' ',
    '\t',
    ' ,',
    ',',
    ', ',
    '"',
    '\\"',
    '"\\',
    'a',
    '1',
    '-',
    '1-',
    ';',
    ';a',
    '=',
    'a=',
    'a=1,',
    'a="',
  ],
  ...['%', '%41', '[', '[a]', '&', 'a&', '.', ':', '::', '1:', 'W/', 'W/"', '*', '(', '~', 'é'],
];
const STARTS = ['', 'a="', '"', 'bytes=1-', '[', 'W/"', '/?', 'a=1;'];
const ENDS = ['', 'a', '"'];

function* inputs(): Generator<string> {
  for (const unit of UNITS) {
    for (const start of STARTS) {
      for (const end of ENDS) yield start + unit.repeat(BYTES / unit.length) + end;
    }
  }
}

/** Matches a regular expression in source code: the characters before it cannot precede a division. */
const LITERAL =
  /(?<=(?:[(,=:[!&|?{};]|\breturn) ?)\/((?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)\/[dgimsuvy]*/g;

/** A regular expression for which a search may scan the rest of the text at each position. */
const BEGINS_UNBOUNDED = /^(?:\((?:\?(?::|<\w+>))?)*(?:\\[a-zA-Z]|\.|\[(?:[^\]\\]|\\.)*\])(?:[*+]|\{\d+,\})/;

function sources(): readonly (readonly [file: string, text: string])[] {
  return readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => [file, readFileSync(join(SRC, file), 'utf8').replace(/^ *(?:\/\/|\/?\*).*$/gm, '')]);
}

/** Microseconds of processor time, which other processes do not influence. */
function costOf(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

/** An example of a quadratic search: each blank is tried as the start of the repetition. */
function quadraticWork(characters: number): string {
  return `gzip${' '.repeat(characters)}x`.replace(/\s*,\s*/g, ',');
}

/** The limit of a parser's time. Quadratic parsing takes four times as long; linear parsing takes a quarter at most. */
function costOfHalf(): number {
  return Math.min(...Array.from({ length: 5 }, () => costOf(() => quadraticWork(BYTES / 2))));
}

describe('parsers of client input', () => {
  it.for(Object.entries(PARSERS))('parsing %s takes linear time for any input', ([, parse]) => {
    const limit = costOfHalf();
    for (const input of inputs()) {
      const isDear = () => costOf(() => parse(input)) > limit;
      // Several measurements, since a garbage collection may disturb one of them.
      if (isDear() && isDear() && isDear() && isDear()) {
        const shown = JSON.stringify(`${input.slice(0, 20)}...${input.slice(-5)}`);
        expect.fail(`${shown} costs more than quadratic work on half of it`);
      }
    }
  });

  it('no regular expression in src begins its search with an unbounded repetition', () => {
    const wrong = sources().flatMap(([file, text]) =>
      [...text.matchAll(LITERAL)]
        .map(([, pattern = '']) => pattern)
        .filter((pattern) => BEGINS_UNBOUNDED.test(pattern))
        .map((pattern) => `${file}: /${pattern}/`),
    );
    expect(wrong, 'such a search is quadratic: anchor it, or split the text').toEqual([]);
    expect(BEGINS_UNBOUNDED.test('\\s*,\\s*'), 'the search that this test began with').toBe(true);
  });

  it('the measurement of parsing time distinguishes quadratic from linear time', () => {
    const limit = costOfHalf();
    expect(costOf(() => quadraticWork(BYTES))).toBeGreaterThan(limit * 2);
  });
});
