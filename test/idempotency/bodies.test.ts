import express, { type RequestHandler } from 'express';
import express4 from 'express4';
import multer from 'multer';
import { describe, expect, it } from 'vitest';
import type { IdempotencyOptions } from '../../src/index.ts';
import { EXPRESS } from '../http/frameworks.ts';
import { redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { keepingLogger } from '../support/stores.ts';
import { type Answer, send, serve } from '../support/web.ts';
import { numbered } from './shop.ts';

type Parser = (options?: object) => RequestHandler;

/** The body parsers of a framework. The types of Express 5 serve for Express 4 as well. */
const PARSERS: Readonly<Record<string, { readonly json: Parser; readonly urlencoded: Parser }>> = {
  'Express 5': express as never,
  'Express 4': express4 as never,
};

const JSON_TYPE = { 'Content-Type': 'application/json' };
const TEXT = { 'Content-Type': 'text/plain' };
const FORM = { 'Content-Type': 'multipart/form-data; boundary=x' };

/** A multipart form as browsers send it: fields by name, and optionally a file. */
function form(fields: Readonly<Record<string, string>>, file?: string): string {
  const part = (about: string, value: string) =>
    `--x\r\nContent-Disposition: form-data; ${about}\r\n\r\n${value}\r\n`;
  const parts = Object.entries(fields).map(([name, value]) => part(`name="${name}"`, value));
  if (file !== undefined) parts.push(part('name="file"; filename="a.txt"', file));
  return `${parts.join('')}--x--\r\n`;
}

describe.each(EXPRESS)('The body of a request with a key on %s', (name, makeApp) => {
  const { json, urlencoded } = PARSERS[name] ?? expect.unreachable();

  /** An app with these body parsers, and a function that posts to it with one key. */
  async function posting(parsers: readonly RequestHandler[], options: IdempotencyOptions = {}) {
    const logger = keepingLogger();
    const kit = kitForTest({ url: 'memory:', logger });
    const refused = eventsOf(kit, 'idempotency:refused');
    const app = makeApp();
    for (const parser of parsers) app.use(parser);
    app.use(kit.idempotency({ scope: () => 'all', ...options }), numbered());
    const address = await serve(app);
    const post = (body: string | undefined, headers: Readonly<Record<string, string>>) =>
      send(address, { method: 'POST', headers: { 'Idempotency-Key': 'k', ...headers }, body: body ?? '' });
    return { post, refused, warnings: logger.lines };
  }

  function expectRefusal({ status, text, headers }: Answer, wanted: number, detail: string): void {
    expect([status, headers['retry-after']]).toEqual([wanted, undefined]);
    expect(headers['content-type']).toContain('application/problem+json');
    expect(JSON.parse(text)).toMatchObject({ status: wanted, detail: expect.stringContaining(detail) });
  }

  /** The outcome of the second request: a replay, a refusal or an attempt of its own. */
  async function outcomeOf(answers: readonly Promise<Answer>[]): Promise<unknown[]> {
    const all = await Promise.all(answers);
    return all.map(({ status, headers }) => headers['idempotent-replayed'] ?? status);
  }

  it.each<[string, () => RequestHandler[], Readonly<Record<string, string>>]>([
    ['text below a parser of JSON', () => [json()], TEXT],
    ['text below parsers of JSON and forms', () => [json(), urlencoded({ extended: true })], TEXT],
    ['text below a parser of multipart forms', () => [multer().none()], TEXT],
    ['JSON below a parser of multipart forms', () => [multer().none()], JSON_TYPE],
    ['a multipart form below a parser of JSON', () => [json()], FORM],
    ['a body without a type', () => [json()], {}],
    ['JSON below no parser', () => [], JSON_TYPE],
    ['text in chunks', () => [json()], { ...TEXT, 'Transfer-Encoding': 'chunked' }],
  ])('a request is refused with 415 when its body is %s', async (_, parsers, headers) => {
    const { post, refused, warnings } = await posting(parsers());
    for (let turn = 0; turn < 2; turn++) expectRefusal(await post('{}', headers), 415, 'not read');
    expect(refused).toEqual(Array(2).fill({ key: 'k', reason: 'unread-body' }));
    expect(warnings, 'one warning names the remedy').toEqual([expect.stringContaining('express.json()')]);
  });

  it('a request with an empty body of a type without a parser runs', async () => {
    const { post, warnings } = await posting([json()]);
    expect((await post(undefined, TEXT)).status).toBe(201);
    expect(warnings).toEqual([]);
  });

  it('a request with a body of a type without a parser runs if the option `handler` calls next()', async () => {
    const { post } = await posting([json()], { handler: (_req, _res, next) => next() });
    expect((await post('a', TEXT)).status).toBe(201);
  });

  it.each(['null', 'false', '0', '""'])(
    'a request whose body is the JSON text %s runs, and its retry is replayed',
    async (text) => {
      const { post } = await posting([json({ strict: false }), urlencoded({ extended: true })]);
      expect((await post(text, JSON_TYPE)).status).toBe(201);
      const again = [post(text, JSON_TYPE), post('1', JSON_TYPE), post(undefined, JSON_TYPE)];
      expect(await outcomeOf(again)).toEqual(['true', 422, 422]);
    },
  );

  it('a request with a multipart form without files runs, and its retry is replayed', async () => {
    const { post } = await posting([json(), multer().none()]);
    expect((await post(form({ item: 'tea', 'of[]': 'ann' }), FORM)).status).toBe(201);
    const bodies = [form({ item: 'tea', 'of[]': 'ann' }), form({ item: 'tea', 'of[]': 'bob' }), form({})];
    expect(await outcomeOf(bodies.map((body) => post(body, FORM)))).toEqual(['true', 422, 422]);
  });

  it.each<[string, () => RequestHandler]>([
    ['single', () => multer().single('file')],
    ['array', () => multer().array('file')],
    ['fields', () => multer().fields([{ name: 'file' }])],
    ['any', () => multer().any()],
  ])(
    'a form with a file, but not a form without one, needs the option `fingerprint` with multer().%s()',
    async (_, parser) => {
      const { post } = await posting([parser()]);
      expect((await post(form({ item: 'tea' }), FORM)).status).toBe(201);
      expect(await outcomeOf([post(form({ item: 'tea' }), FORM)])).toEqual(['true']);
      const { status, text } = await post(form({ item: 'tea' }, 'content'), FORM);
      expect([status, text.includes('`fingerprint`')]).toEqual([500, true]);
    },
  );

  it('a form field with a huge array index is compared without the holes of the array', async () => {
    const { post } = await posting([multer().none()]);
    const fields = { 'a[4294967294]': 'x' };
    expect((await post(form(fields), FORM)).status).toBe(201);
    expect(await outcomeOf([post(form(fields), FORM)])).toEqual(['true']);
  });

  it('a request is refused with 400 when its JSON is nested too deeply for a fingerprint', async () => {
    const { post, refused } = await posting([json()]);
    const deep = '['.repeat(40_000) + ']'.repeat(40_000);
    expectRefusal(await post(deep, JSON_TYPE), 400, 'too deeply');
    expect(refused).toEqual([{ key: 'k', reason: 'deep-body' }]);
  });
});

it('a request whose body is the JSON text null runs, and its retry is replayed, on Redis', async () => {
  const kit = kitForTest({ url: redisUrl() });
  const app = express().use(express.json({ strict: false }), kit.idempotency({ scope: () => 'all' }));
  const address = await serve(app.use(numbered()));
  const post = () =>
    send(address, { method: 'POST', headers: { 'Idempotency-Key': 'k', ...JSON_TYPE }, body: 'null' });
  expect((await post()).status).toBe(201);
  expect((await post()).headers['idempotent-replayed']).toBe('true');
});
