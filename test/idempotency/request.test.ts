import { createHash } from 'node:crypto';
import express, { type RequestHandler } from 'express';
import { describe, expect, it } from 'vitest';
import type { IdempotencyOptions, IdempotencyRefusal } from '../../src/index.ts';
import { redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { keepingLogger } from '../support/stores.ts';
import { type Answer, send, serve } from '../support/web.ts';
import { numbered, shop } from './shop.ts';

const memory = () => kitForTest({ url: 'memory:' });

function isReplay({ headers }: Answer): boolean {
  return headers['idempotent-replayed'] === 'true';
}

describe('The idempotency key', () => {
  it.each([
    ['empty', ''],
    ['an empty string', '""'],
    ['a string that does not end', '"abc'],
    ['two strings', '"a" "b"'],
    ['a list', '"a", "b"'],
    ['a token with a space', 'a b'],
    ['a number of structured fields with a parameter', '1;a'],
    ['longer than 255 characters', `"${'x'.repeat(256)}"`],
    ['longer than 255 characters, without quotes', 'x'.repeat(256)],
    ['text outside of ASCII', '"\u00e4"'],
    ['a token with a no-break space at its end', 'abc\xa0'],
  ])('a request is refused with 400 when its key is %s', async (_, key) => {
    const kit = memory();
    const refused = eventsOf(kit, 'idempotency:refused');
    const { order, runs } = await shop(kit);
    // With a text as its body, Node would send the headers as UTF-8.
    const { status, headers, text } = await order(key, { body: Buffer.from('{}') });
    expect([status, runs(), headers['retry-after']]).toEqual([400, 0, undefined]);
    expect(headers['content-type']).toContain('application/problem+json');
    expect(JSON.parse(text)).toMatchObject({ status: 400, title: 'Bad Request' });
    expect(refused).toEqual([{ key: undefined, reason: 'malformed-key' }]);
  });

  it.each([
    '8e03978e-40d5-43dd-bc93-6894a57f9324',
    'order_17:4',
    'YWJj/+==',
    `"${'x'.repeat(255)}"`,
    '"with a space, a comma and an \\"escape\\""',
    '"a";parameter=1',
  ])('a key can be %s', async (key) => {
    const { order, runs } = await shop(memory());
    expect((await order(key)).status).toBe(201);
    expect([isReplay(await order(key)), runs()]).toEqual([true, 1]);
  });

  it('a key with quotes equals the same key without quotes', async () => {
    const { order } = await shop(memory());
    await order('abc');
    expect(isReplay(await order('"abc"'))).toBe(true);
  });

  it('every request without a key runs', async () => {
    const { order, runs } = await shop(memory());
    for (let turn = 0; turn < 2; turn++)
      expect(JSON.parse((await order(undefined)).text)).not.toHaveProperty('key');
    expect(runs()).toBe(2);
  });

  it('a request without a key is refused with 400 when `required` is true', async () => {
    const kit = memory();
    const refused = eventsOf(kit, 'idempotency:refused');
    const { order, runs } = await shop(kit, { required: true });
    expect([(await order(undefined)).status, runs()]).toEqual([400, 0]);
    expect(refused).toEqual([{ key: undefined, reason: 'missing-key' }]);
    expect((await order(undefined, { method: 'PUT' })).status, 'not of other methods').toBe(201);
  });

  it('the option `header` names the request header with the key, in upper or lower case', async () => {
    const { order } = await shop(memory(), { header: 'X-Request-Key' });
    const headers = { 'x-request-KEY': 'k' };
    await order(undefined, { headers });
    expect(isReplay(await order(undefined, { headers }))).toBe(true);
  });

  it('the key of a POST or PATCH is used, and that of another method only if `methods` names the method', async () => {
    const usual = await shop(memory());
    for (const method of ['PUT', 'DELETE', 'GET']) {
      await usual.order('k', { method });
      expect(isReplay(await usual.order('k', { method })), method).toBe(false);
    }
    for (const method of ['POST', 'PATCH']) {
      await usual.order(method, { method });
      expect(isReplay(await usual.order(method, { method })), method).toBe(true);
    }
    const own = await shop(memory(), { methods: ['put'] });
    await own.order('k', { method: 'PUT' });
    expect(isReplay(await own.order('k', { method: 'PUT' }))).toBe(true);
    await own.order('p');
    expect(isReplay(await own.order('p'))).toBe(false);
  });
});

describe('A refusal', () => {
  it('the option `handler` responds to a refusal and receives its reason', async () => {
    const refusals: IdempotencyRefusal[] = [];
    const { order } = await shop(memory(), {
      required: true,
      handler(_req, res, _next, refusal) {
        refusals.push(refusal);
        res.status(418).end();
      },
    });
    await order('k');
    for (const key of [undefined, '"', 'k'] as const) {
      expect((await order(key, { body: '{"other":1}' })).status).toBe(418);
    }
    expect(refusals).toMatchObject([
      { reason: 'missing-key', status: 400, key: undefined },
      { reason: 'malformed-key', status: 400, key: undefined },
      { reason: 'mismatch', status: 422, key: 'k', retryAfterMs: undefined },
    ]);
  });

  it('the option `handler` can call next() to run a refused request, and its errors reach the error handler', async () => {
    const through = await shop(memory(), { required: true, handler: (_req, _res, next) => next() });
    expect((await through.order(undefined)).status).toBe(201);
    const thrown = await shop(memory(), {
      required: true,
      handler() {
        throw new Error('on purpose');
      },
    });
    const { status, text } = await thrown.order(undefined);
    expect([status, text.includes('on purpose')]).toEqual([500, true]);
  });
});

describe('The scope of a key', () => {
  /** Sends two requests with the same key and these headers. */
  async function areOne(options: IdempotencyOptions, above: RequestHandler[], a: Headers, b: Headers) {
    const logger = keepingLogger();
    const kit = kitForTest({ url: 'memory:', logger });
    const { order, runs } = await shop(kit, { scope: undefined, ...options, above });
    await order('k', { headers: a });
    const second = await order('k', { headers: b });
    expect(second.status).toBe(201);
    expect(isReplay(second)).toBe(runs() === 1);
    return { isOne: runs() === 1, warnings: logger.lines.length, lines: logger.lines, order };
  }
  type Headers = Readonly<Record<string, string>>;

  const session: RequestHandler = (req, _res, next) => {
    const { 'x-user': userId, 'x-session': sessionID = 'made-now' } = req.headers;
    Object.assign(req, { session: { userId }, sessionID });
    next();
  };

  it('the scope is the user id of the session, even in another session of the user', async () => {
    const ann = (id: string) => ({ 'X-User': 'ann', 'X-Session': id, Cookie: `sid=s%3A${id}.sig` });
    expect(await areOne({}, [session], ann('1'), ann('2'))).toMatchObject({ isOne: true, warnings: 0 });
    const bob = { ...ann('1'), 'X-User': 'bob' };
    expect(await areOne({}, [session], ann('1'), bob)).toMatchObject({ isOne: false });
  });

  it('the scope is the Authorization header when there is no user', async () => {
    const [ann, bob] = [{ Authorization: 'Bearer ann' }, { Authorization: 'Bearer bob' }];
    expect(await areOne({}, [], ann, ann)).toMatchObject({ isOne: true, warnings: 0 });
    expect(await areOne({}, [session], ann, bob)).toMatchObject({ isOne: false, warnings: 0 });
  });

  it('the scope is the session id that the client sent when there is no user and no Authorization header', async () => {
    const cookie = (id: string) => ({
      'X-Session': id,
      Cookie: `other=1; sid=s%3A${encodeURIComponent(id)}.sig`,
    });
    expect(await areOne({}, [session], cookie('a/1'), cookie('a/1'))).toMatchObject({
      isOne: true,
      warnings: 0,
    });
    expect(await areOne({}, [session], cookie('a/1'), cookie('a/2'))).toMatchObject({
      isOne: false,
      warnings: 0,
    });
  });

  it('the scope of a request without a user, Authorization and a sent session id is the client address, with one warning', async () => {
    const made = (id: string) => ({ 'X-Session': id });
    const found = await areOne({}, [session], made('1'), made('2'));
    expect(found).toMatchObject({ isOne: true, warnings: 1 });
    await found.order('another');
    expect(found.lines).toEqual([expect.stringContaining('option `scope`')]);
  });

  it('the option `scope` sets the scope, and equal keys of two scopes are independent', async () => {
    const options: IdempotencyOptions = { scope: async (req) => String(req.headers['x-tenant']) };
    const [a, b] = [{ 'X-Tenant': 'a' }, { 'X-Tenant': 'b' }];
    expect(await areOne(options, [], a, a)).toMatchObject({ isOne: true, warnings: 0 });
    const { order } = await areOne(options, [], a, b);
    const other = await order('k', { headers: { 'X-Tenant': 'c' }, body: '{"of":"c"}' });
    expect(other.status, 'a different body does not conflict across scopes').toBe(201);
  });

  it.each([undefined, '', 7])(
    'a scope of %j is refused with an error, since many clients would share the scope',
    async (scope) => {
      const { order, runs } = await shop(memory(), { scope: () => scope as string });
      const { status, text } = await order('k');
      expect([status, runs(), text.includes('option `scope` returned')]).toEqual([500, 0, true]);
    },
  );

  it('the scope is the user who logged in with kit.session', async () => {
    const kit = memory();
    const app = express().use(kit.session(), express.json());
    app.post('/login', async (req, res) => {
      await req.session.login(req.body.user);
      res.end();
    });
    app.post('/orders', kit.idempotency(), numbered());
    const address = await serve(app);
    const post = (path: string, body: object, headers = {}) =>
      send(address + path, {
        method: 'POST',
        body: JSON.stringify(body),
        headers: { 'Content-Type': 'application/json', ...headers },
      });
    const [ann = '', bob = '', annAgain = ''] = await Promise.all(
      ['ann', 'bob', 'ann'].map(async (user) => {
        const { headers } = await post('/login', { user });
        return String(headers['set-cookie']?.[0]).split(';')[0];
      }),
    );
    const order = (Cookie: string) => post('/orders', { item: 'tea' }, { Cookie, 'Idempotency-Key': 'k' });
    expect([isReplay(await order(ann)), isReplay(await order(bob)), isReplay(await order(annAgain))]).toEqual(
      [false, false, true],
    );
  });
});

it('the scope of a request without a user is its stored kit.session, or else the client address', async () => {
  const logger = keepingLogger();
  const kit = kitForTest({ url: 'memory:', logger });
  const app = express().use(kit.session({ secret: 'a secret of the tests' }));
  app.get('/', (req, res) => void res.json(Object.assign(req.session, { visited: true })));
  app.post('/', kit.idempotency(), numbered());
  const address = await serve(app);
  const order = (Cookie: string) =>
    send(address, { method: 'POST', headers: { 'Idempotency-Key': 'k', ...(Cookie && { Cookie }) } });
  const visit = async () => String((await send(address)).headers['set-cookie']?.[0]).split(';')[0] ?? '';
  const [one, two] = [await visit(), await visit()];
  const replays = [];
  for (const cookie of [one, one, two, two]) replays.push(isReplay(await order(cookie)));
  expect([replays, logger.lines]).toEqual([[false, true, false, true], []]);
  expect([isReplay(await order('')), isReplay(await order(''))]).toEqual([false, true]);
  expect(logger.lines).toEqual([expect.stringContaining('client address')]);
});

describe('The fingerprint of a request', () => {
  /** The outcome of the second request: its status, or a replay. */
  async function second(
    options: Parameters<typeof shop>[1],
    first: string,
    then: string,
  ): Promise<number | 'replay'> {
    const { order } = await shop(memory(), options);
    expect((await order('k', { body: first })).status).toBe(201);
    const answer = await order('k', { body: then });
    return isReplay(answer) ? 'replay' : answer.status;
  }

  const raw: RequestHandler = (req, _res, next) => {
    Object.assign(req, { rawBody: String(req.headers['x-raw']) });
    next();
  };

  it('the fingerprint depends on the order of names in a JSON body, but not on white space', async () => {
    expect(await second({}, '{"a":1,"b":2}', '{ "a": 1, "b": 2 }')).toBe('replay');
    expect(await second({}, '{"a":1,"b":2}', '{"b":2,"a":1}')).toBe(422);
    expect(await second({}, '{}', '[]')).toBe(422);
    expect(await second({}, '{}', '{}')).toBe('replay');
  });

  it('the fingerprint is made of `req.rawBody` rather than `req.body` when a request has both', async () => {
    const { order } = await shop(memory(), { above: [raw] });
    await order('k', { headers: { 'X-Raw': 'a' } });
    expect(isReplay(await order('k', { headers: { 'X-Raw': 'a' }, body: '{"other":1}' }))).toBe(true);
    expect((await order('k', { headers: { 'X-Raw': 'b' } })).status).toBe(422);
  });

  it.each(['text', 'raw'] as const)(
    'the fingerprint is made of the body that express.%s() parses',
    async (parser) => {
      const above = [express[parser]({ type: () => true })];
      const kit = memory();
      const app = express().use(...above, kit.idempotency({ scope: () => 'all' }), numbered());
      const address = await serve(app);
      const post = (body: string) =>
        send(address, { method: 'POST', body, headers: { 'Idempotency-Key': 'k' } });
      await post('a');
      expect(isReplay(await post('a'))).toBe(true);
      expect((await post('b')).status).toBe(422);
    },
  );

  it('the option `fingerprint` returns the content by which a retry is recognized', async () => {
    const options = { fingerprint: (req: express.Request) => String(req.body.item) };
    expect(await second(options, '{"item":"tea","at":1}', '{"item":"tea","at":2}')).toBe('replay');
    expect(await second(options, '{"item":"tea"}', '{"item":"milk"}')).toBe(422);
    const bytes = { fingerprint: async (req: express.Request) => Buffer.from(String(req.body.item)) };
    expect(await second(bytes, '{"item":"tea","at":1}', '{"item":"tea","at":2}')).toBe('replay');
    const { order, runs } = await shop(memory(), { fingerprint: () => 7 as never });
    expect([(await order('k')).text.includes('option `fingerprint` returned 7'), runs()]).toEqual([true, 0]);
  });

  it('a retry of a request without a body is replayed', async () => {
    const { order } = await shop(memory());
    await order('k', { body: '' });
    expect(isReplay(await order('k', { body: '' }))).toBe(true);
  });

  it('a request with files, or with a stream as its body, needs the option `fingerprint`', async () => {
    const parsed =
      (body: unknown): RequestHandler =>
      (req, _res, next) => {
        req.body = body;
        next();
      };
    const withFile: RequestHandler = (req, _res, next) => {
      Object.assign(req, { file: { fieldname: 'picture' } });
      next();
    };
    const files = await shop(memory(), { above: [parsed({ title: 'a picture' }), withFile] });
    const multipart = await files.order('k', {
      headers: { 'Content-Type': 'multipart/form-data; boundary=x' },
    });
    expect([multipart.status, multipart.text.includes('`fingerprint`')]).toEqual([500, true]);
    const stream = await shop(memory(), { above: [parsed(new ReadableStream())] });
    const { status, text } = await stream.order('k');
    expect([status, text.includes('`fingerprint`'), stream.runs()]).toEqual([500, true, 0]);
  });

  it('Redis stores only hashes of the scope, the key and the body of a request', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const { order } = await shop(kit, { scope: () => 'secret-scope' }, (_req, res) => void res.end('answer'));
    await order('secret-key', { body: '{"card":"4111"}' });
    await withPlainClient(redisUrl(), async (client) => {
      const [key = '', ...others] = await client.keys(`${kit.prefix}:*`);
      expect(others).toEqual([]);
      const hash = createHash('sha256').update(Buffer.from('["secret-scope","secret-key"]', 'utf16le'));
      expect(key).toBe(`${kit.prefix}:idempotency:{*${hash.digest('base64url')}}`);
      const value = String(await client.get(key));
      expect([value.includes('answer'), value.includes('4111')]).toEqual([true, false]);
      expect(await client.pTTL(key)).toBeGreaterThan(86_000_000);
    });
  });
});
