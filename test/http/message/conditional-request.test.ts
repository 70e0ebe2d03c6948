import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  isNotModified,
  type Validators,
  validatorsOf,
} from '../../../src/http/message/conditional-request.ts';

const [BEFORE, THEN, LATER] = [
  'Sun, 06 Nov 1994 08:49:36 GMT',
  'Sun, 06 Nov 1994 08:49:37 GMT',
  'Sun, 06 Nov 1994 08:49:38 GMT',
] as const;

function answers(headers: IncomingHttpHeaders, validators: Validators, method = 'GET'): boolean {
  return isNotModified({ method, headers } as IncomingMessage, validators);
}

const since = (date: string) => ({ 'if-modified-since': date });
const none = (tags: string) => ({ 'if-none-match': tags });

it('a request without conditions is not answered with 304, and no validator is read', () => {
  const untouchable = new Proxy({}, { get: () => expect.unreachable() });
  expect(answers({}, untouchable)).toBe(false);
});

it('the validators of a response are found with names in any case (RFC 9110, section 8.8)', () => {
  const headers = [
    ['ETag', '"a"'],
    ['last-modified', THEN],
    ['DATE', LATER],
    ['constructor', 'x'],
    ['X-Date', ['x', 'y']],
  ] as const;
  expect(validatorsOf(headers)).toEqual({ etag: '"a"', lastModified: THEN, date: LATER });
  expect(validatorsOf([])).toEqual({});
});

describe('If-None-Match (RFC 9110, section 13.1.2)', () => {
  it.each([
    ['"a"', '"a"'],
    ['W/"a"', '"a"'],
    ['"a"', 'W/"a"'],
    ['W/"a"', 'W/"a"'],
    ['"x", W/"a" ,"y"', '"a"'],
    ['"x","a,b"', '"a,b"'],
    ['""', '""'],
    ['*', '"a"'],
    [' * ', undefined],
  ])('If-None-Match: %s matches the tag %s by weak comparison', (header, etag) => {
    expect(answers(none(header), { etag })).toBe(true);
    expect(answers(none(header), { etag }, 'HEAD')).toBe(true);
  });

  it.each([
    ['"b"', '"a"'],
    ['"A"', '"a"'],
    ['"a"', undefined],
    ['a', '"a"'],
    ['a', 'a'],
    ['"a', '"a"'],
    ['"*"', '"a"'],
    ['', '"a"'],
    [',', ''],
  ])('If-None-Match: %s does not match the tag %s', (header, etag) => {
    expect(answers(none(header), { etag })).toBe(false);
  });
});

describe('If-Modified-Since (RFC 9110, section 13.1.3)', () => {
  it('If-Modified-Since is compared with Last-Modified, in each form of a date', () => {
    for (const header of [THEN, LATER, 'Sunday, 06-Nov-94 08:49:37 GMT', 'Sun Nov  6 08:49:37 1994']) {
      expect(answers(since(header), { lastModified: THEN }), header).toBe(true);
      expect(answers(since(header), { lastModified: THEN }, 'HEAD'), header).toBe(true);
    }
    expect(answers(since(BEFORE), { lastModified: THEN })).toBe(false);
    expect(answers(since(THEN), { lastModified: 'Sun Nov  6 08:49:37 1994' })).toBe(true);
  });

  it('If-Modified-Since is ignored if its value is not one valid date', () => {
    for (const header of ['', '0', 'now', '2030-01-01', 'Sun, 06 Nov 2030 08:49 GMT', `${LATER}, ${LATER}`]) {
      expect(answers(since(header), { lastModified: THEN, date: THEN }), header).toBe(false);
    }
  });

  it('If-Modified-Since is ignored if the response has no valid Last-Modified or Date', () => {
    expect(answers(since(LATER), {})).toBe(false);
    expect(answers(since(LATER), { etag: '"a"' })).toBe(false);
    expect(answers(since(LATER), { lastModified: 'yesterday' })).toBe(false);
    expect(answers(since(LATER), { date: 'yesterday' })).toBe(false);
  });

  it('If-Modified-Since is compared with the stored Date if Last-Modified is absent (RFC 9111, section 4.3.2)', () => {
    expect(answers(since(THEN), { date: THEN })).toBe(true);
    expect(answers(since(BEFORE), { date: THEN })).toBe(false);
    expect(answers(since(THEN), { lastModified: LATER, date: BEFORE })).toBe(false);
    expect(answers(since(THEN), { lastModified: BEFORE, date: LATER })).toBe(true);
    expect(answers(since(LATER), { lastModified: 'yesterday', date: THEN }), 'it is there').toBe(false);
  });
});

describe('isNotModified() (RFC 9110, section 13.2.2)', () => {
  it('If-Modified-Since is ignored if If-None-Match is present', () => {
    const validators = { etag: '"a"', lastModified: THEN, date: THEN };
    expect(answers({ ...none('"b"'), ...since(LATER) }, validators)).toBe(false);
    expect(answers({ ...none(''), ...since(LATER) }, validators)).toBe(false);
    expect(answers({ ...none('"b"'), ...since(LATER) }, { lastModified: THEN })).toBe(false);
    expect(answers({ ...none('"a"'), ...since(BEFORE) }, validators)).toBe(true);
  });

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'get', ''])(
    'a %s request is not answered with 304',
    (method) => {
      const validators = { etag: '"a"', lastModified: THEN };
      for (const headers of [none('"a"'), none('*'), since(LATER)]) {
        expect(answers(headers, validators, method)).toBe(false);
      }
    },
  );

  it('a QUERY request is answered with 304 as a GET is (RFC 10008)', () => {
    expect(answers(none('"a"'), { etag: '"a"' }, 'QUERY')).toBe(true);
    expect(answers(since(LATER), { lastModified: THEN }, 'QUERY')).toBe(true);
  });

  it('isNotModified() ignores all other conditional fields (RFC 9111, section 4.3.2)', () => {
    const headers = { 'if-match': '"b"', 'if-unmodified-since': BEFORE, 'if-range': '"a"' };
    expect(answers(headers, { etag: '"a"', lastModified: THEN })).toBe(false);
  });

  it('isNotModified() never throws', () => {
    const text = fc.option(fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('"a"', '*', THEN)), {
      nil: undefined,
    });
    fc.assert(
      fc.property(text, text, text, text, text, (tags, date, etag, lastModified, stored) => {
        const headers = { 'if-none-match': tags, 'if-modified-since': date };
        expect(answers(headers, { etag, lastModified, date: stored })).toBeTypeOf('boolean');
      }),
    );
  });
});
