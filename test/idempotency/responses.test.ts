import { once } from 'node:events';
import { type IncomingMessage, request, type ServerResponse } from 'node:http';
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  createServer as createHttp2Server,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import compression from 'compression';
import express, { type RequestHandler } from 'express';
import { describe, expect, it, onTestFinished } from 'vitest';
import { APPS, onError } from '../http/frameworks.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { type Answer, send, serve } from '../support/web.ts';
import { gate, shop } from './shop.ts';

const memory = () => kitForTest({ url: 'memory:' });

type Handler = (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => void;

/** Headers that differ from one sending of a response to the next. */
const OF_THE_MOMENT = [
  'date',
  'connection',
  'keep-alive',
  'transfer-encoding',
  'content-length',
  'idempotent-replayed',
];

/** The headers as sorted lines. */
function headersOf({ rawHeaders }: Answer): string[] {
  return rawHeaders
    .flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${rawHeaders[at + 1]}`] : []))
    .filter((line) => !OF_THE_MOMENT.includes(line.split(':', 1)[0]?.toLowerCase() ?? ''))
    .sort();
}

const post = (address: string, headers: Readonly<Record<string, string>> = {}) =>
  send(`${address}/`, { method: 'POST', headers: { 'Idempotency-Key': 'k', ...headers } });

const RESPONSES: readonly (readonly [string, Handler])[] = [
  ['sent at once', (_req, res) => void res.end('body')],
  ['without a body', (_req, res) => void res.writeHead(201).end()],
  [
    'by writeHead with an object',
    (_req, res) => void res.writeHead(202, 'Taken', { 'X-One': '1' }).end('body'),
  ],
  [
    'by writeHead with a flat list',
    (_req, res) => void res.writeHead(201, ['X-Many', 'a', 'X-Many', 'b', 'X-One', '1']).end('body'),
  ],
  [
    'with headers of several lines',
    (_req, res) => {
      res.setHeader('Link', ['</a>; rel=next', '</b>; rel=prev']);
      res.appendHeader('Link', '</c>; rel=up');
      res.end('body');
    },
  ],
  [
    'in pieces',
    (_req, res) => {
      res.setHeader('Content-Type', 'text/plain');
      res.write('bo');
      setImmediate(() => res.write('d', () => res.end('y')));
    },
  ],
  [
    'in one write that completes the declared length',
    (_req, res) => {
      res.setHeader('Content-Length', 4);
      res.write('body');
      setTimeout(() => res.end(), 5);
    },
  ],
  ['as a stream', (_req, res) => void Readable.from(['bo', 'dy']).pipe(res)],
  [
    'with trailers, which a replay leaves out',
    (_req, res) => {
      res.setHeader('Trailer', 'X-Sum');
      res.write('body');
      res.addTrailers({ 'X-Sum': '4' });
      res.end();
    },
  ],
  ['in another encoding', (_req, res) => void res.end('Ym9keQ==', 'base64')],
];

describe.each(APPS)('A retry on %s', (_, makeApp) => {
  it.each(RESPONSES)(
    'a retry gets the status, headers and bytes of a first response %s',
    async (_what, handler) => {
      const kit = memory();
      let runs = 0;
      const app = makeApp();
      app.use(kit.idempotency({ scope: () => 'all' }));
      app.use((req, res, next) => {
        runs++;
        handler(req, res, next);
      });
      const address = await serve(app);
      const first = await post(address);
      const second = await post(address);
      expect([second.status, second.text, runs]).toEqual([first.status, first.text, 1]);
      expect(second.headers['idempotent-replayed']).toBe('true');
      expect(headersOf(second)).toEqual(headersOf(first).filter((line) => !/^Trailer/.test(line)));
    },
  );

  it('a retry gets the recorded response of the error handler when the handler failed', async () => {
    const kit = memory();
    let runs = 0;
    const app = makeApp();
    app.use(kit.idempotency({ scope: () => 'all' }));
    app.use(() => {
      throw new Error(`failure ${++runs}`);
    });
    onError(app, (error, res) => {
      res.statusCode = 500;
      res.end(error.message);
    });
    const address = await serve(app);
    for (let turn = 0; turn < 2; turn++) {
      const { status, text } = await post(address);
      expect([status, text]).toEqual([500, 'failure 1']);
    }
  });
});

it('kit.idempotency works on plain node:http', async () => {
  const idempotency = memory().idempotency({ scope: () => 'all' });
  let runs = 0;
  const address = await serve((req, res) => idempotency(req, res, () => void res.end(`run ${++runs}`)));
  for (let turn = 0; turn < 2; turn++) expect((await post(address)).text).toBe('run 1');
  expect((await send(address)).text).toBe('run 2');
});

it('a request over HTTP/2 runs once, and its body is part of the fingerprint', async () => {
  const idempotency = memory().idempotency({ scope: () => 'all' });
  let runs = 0;
  const server = createHttp2Server((req, res) => {
    const [request, response] = [req, res] as unknown as [IncomingMessage, ServerResponse];
    const chunks: Buffer[] = [];
    req.on('data', (chunk) => chunks.push(Buffer.from(chunk)));
    req.on('end', () => {
      if (req.headers['x-parse'] !== 'no') Object.assign(req, { rawBody: Buffer.concat(chunks) });
      idempotency(request, response, (error) => {
        if (error === undefined) res.setHeader('X-Run', String(++runs));
        else res.statusCode = 500;
        res.end(`run ${runs}`);
      });
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const session = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  onTestFinished(() => {
    session.destroy();
    server.close();
  });
  const ask = async (body: string, headers = {}) => {
    const fields = { ':method': 'POST', ':path': '/', 'idempotency-key': 'k', ...headers };
    return answerOf(session, fields, body);
  };
  expect(await ask('a')).toMatchObject({ status: 200, replayed: undefined, text: 'run 1', run: '1' });
  expect(await ask('a')).toMatchObject({ status: 200, replayed: 'true', text: 'run 1', run: '1' });
  expect(await ask('b')).toMatchObject({ status: 422 });
  expect(await ask('b', { 'x-parse': 'no' }), 'no parser has read its body').toMatchObject({ status: 415 });
});

async function answerOf(session: ClientHttp2Session, fields: object, body: string) {
  const stream = session.request({ ...fields });
  stream.end(body);
  const [headers] = await once(stream, 'response');
  let text = '';
  for await (const chunk of stream.setEncoding('utf8')) text += chunk;
  return {
    status: headers[':status'],
    replayed: headers['idempotent-replayed'],
    run: headers['x-run'],
    text,
  };
}

describe('A retry', () => {
  it('a retry gets a file that the handler sent', async () => {
    const file = fileURLToPath(import.meta.url);
    const { order } = await shop(memory(), {}, (_req, res) => res.sendFile(file));
    const first = await order('k');
    const second = await order('k');
    expect(first.text).toContain('a retry gets a file that the handler sent');
    expect(second.body.equals(first.body)).toBe(true);
    expect(headersOf(second)).toEqual(headersOf(first));
  });

  it('a retry gets the headers that the handler set, but not the cookies of the first response', async () => {
    let id = 0;
    const above: RequestHandler = (_req, res, next) => {
      res.set({ 'X-Request-Id': String(++id), 'X-Changed': 'above', 'X-Kept': 'above' });
      next();
    };
    const { order } = await shop(memory(), { above: [above] }, (_req, res) => {
      res.cookie('secret', 'of the first').set('X-Changed', 'below').set('Connection', 'close, X-Hop');
      res.set('X-Hop', 'for one connection').send('body');
    });
    const first = await order('k');
    expect([first.headers['set-cookie']?.length, first.headers['x-hop']]).toEqual([1, 'for one connection']);
    const { headers } = await order('k');
    expect(headers).toMatchObject({ 'x-request-id': '2', 'x-changed': 'below', 'x-kept': 'above' });
    expect([headers['set-cookie'], headers['x-hop']]).toEqual([undefined, undefined]);
  });

  it.each([['above'], ['below']] as const)(
    'a retry gets a response that the compression middleware %s kit.idempotency encodes',
    async (place) => {
      const text = 'tea '.repeat(1_000);
      const { order } = await shop(
        memory(),
        { [place]: [compression()] },
        (_req, res) => void res.send(text),
      );
      for (let turn = 0; turn < 2; turn++) {
        const { headers, body } = await order('k', { headers: { 'Accept-Encoding': 'gzip' } });
        expect([headers['content-encoding'], gunzipSync(body).toString()]).toEqual(['gzip', text]);
        expect(headers['idempotent-replayed']).toBe(turn === 0 ? undefined : 'true');
      }
    },
  );

  it('a retry is replayed with kit.session and kit.lock before or after kit.idempotency', async () => {
    const kit = memory();
    const once = [kit.session(), kit.lock({ key: () => 'shop' }), kit.idempotency({ scope: () => 'all' })];
    for (const [turn, order] of [once, [...once].reverse()].entries()) {
      let runs = 0;
      const app = express().use(...order);
      app.post('/', (req, res) => {
        Object.assign(req.session, { runs: ++runs });
        res.send(`run ${runs}`);
      });
      const address = await serve(app);
      const key = { 'Idempotency-Key': `k${turn}` };
      const first = await post(address, key);
      expect([first.status, first.text, first.headers['set-cookie']?.length]).toEqual([200, 'run 1', 1]);
      const second = await post(address, key);
      expect([second.status, second.text, second.headers['set-cookie']]).toEqual([200, 'run 1', undefined]);
      await using lock = await kit.locks.tryAcquire('shop');
      expect(lock, 'a repeat leaves no lock behind').not.toBeNull();
    }
  });

  it('a request runs once when kit.idempotency is mounted twice', async () => {
    const kit = memory();
    const { order, runs } = await shop(kit, { below: [kit.idempotency({ scope: () => 'everybody' })] });
    expect((await order('k')).status).toBe(201);
    expect([(await order('k')).status, runs()]).toEqual([201, 1]);
  });

  it('a retry gets the whole body of a streamed response', async () => {
    const { opened, open } = gate();
    const { order, address } = await shop(memory(), {}, async (_req, res) => {
      res.write('first,');
      await opened;
      res.end('last');
    });
    const client = request(`${address}/orders`, {
      method: 'POST',
      headers: { 'Idempotency-Key': 'k', 'Content-Type': 'application/json' },
    }).end('{"item":"tea"}');
    const [response] = (await once(client, 'response')) as [IncomingMessage];
    expect(String((await once(response, 'data'))[0])).toBe('first,');
    expect((await order('k')).status, 'it still runs').toBe(409);
    open();
    await once(response.resume(), 'end');
    expect((await order('k')).text).toBe('first,last');
  });
});

describe('A handler', () => {
  it('the response of a handler is recorded even if the client has disconnected', async () => {
    stopTime();
    const { opened, open } = gate();
    const begun = gate();
    const closed = gate();
    const above: RequestHandler = (req, res, next) => {
      if (req.get('x-leaves') !== undefined) res.on('close', closed.open);
      next();
    };
    const settings = { lease: 60_000, above: [above] } as const;
    const { order, runs, address } = await shop(memory(), settings, async (_req, res) => {
      begun.open();
      await opened;
      res.status(201).send('without a client');
    });
    const client = request(`${address}/orders`, {
      method: 'POST',
      headers: { 'Idempotency-Key': 'k', 'Content-Type': 'application/json', 'X-Leaves': 'yes' },
    }).on('error', () => undefined);
    client.end('{"item":"tea"}');
    await begun.opened;
    client.destroy();
    await closed.opened;
    for (let third = 1; third <= 8; third++) {
      await passTime(20_000);
      expect((await order('k')).status).toBe(409);
    }
    open();
    await until('it is answered', async () => (await order('k')).status === 201);
    const { text, headers } = await order('k');
    expect([text, headers['idempotent-replayed'], runs()]).toEqual(['without a client', 'true', 1]);
  });

  it.each<[string, RequestHandler]>([
    ['destroys its response', (_req, res) => void res.destroy()],
    [
      'destroys its response with the head sent',
      (_req, res) => {
        res.write('begun');
        setImmediate(() => res.destroy());
      },
    ],
    [
      'pipes a stream that fails',
      async (_req, res) => {
        const source = Readable.from(
          (async function* () {
            yield 'begun';
            throw new Error('on purpose');
          })(),
        );
        await pipeline(source, res).catch(() => undefined);
      },
    ],
  ])(
    'a retry is refused until the lease ends, then runs as the second attempt, after a handler that %s',
    async (_, breaks) => {
      stopTime();
      const kit = memory();
      const recovered = eventsOf(kit, 'idempotency:recovered');
      const { order, runs } = await shop(kit, { lease: 60_000 }, (req, res, next) =>
        req.idempotency?.attempt === 1 ? breaks(req, res, next) : void res.json(req.idempotency),
      );
      await expect(order('k')).rejects.toThrow(/aborted|hang up|ECONNRESET/);
      expect((await order('k')).status, 'it may still be at work').toBe(409);
      await passTime(60_000);
      await until('a retry runs', async () => (await order('k')).text === '{"key":"k","attempt":2}');
      expect([runs(), recovered]).toEqual([2, [{ key: 'k', attempt: 2 }]]);
    },
  );

  it('a retry runs after `maxRun` and one lease if the handler of the first request never responds', async () => {
    stopTime();
    const { order, runs } = await shop(memory(), { lease: 60_000, maxRun: 120_000 }, (req, res) => {
      if (req.idempotency?.attempt === 2) res.send('second');
    });
    void order('k');
    await until('it runs', () => runs() === 1);
    for (let passedMs = 0; passedMs < 120_000; passedMs += 20_000) {
      await passTime(20_000);
      expect((await order('k')).status).toBe(409);
    }
    await passTime(60_000);
    expect((await order('k')).text).toBe('second');
  });

  it('a response after the end of the lease is recorded if no other attempt has run', async () => {
    const { opened, open } = gate();
    const options = { lease: '100ms', maxRun: '100ms' } as const;
    const { order, runs } = await shop(memory(), options, async (_req, res) => {
      await opened;
      res.send('late');
    });
    const first = order('k');
    await until('its lease has ended', () => runs() === 1);
    await new Promise((resolve) => setTimeout(resolve, 400));
    open();
    expect((await first).text).toBe('late');
    expect([(await order('k')).headers['idempotent-replayed'], runs()]).toEqual(['true', 1]);
  });

  it('a response after the end of the lease is not recorded if another attempt runs', async () => {
    const kit = memory();
    const lost = eventsOf(kit, 'idempotency:lost');
    const [one, two] = [gate(), gate()];
    const answering =
      (opened: Promise<void>, text: string): RequestHandler =>
      async (_req, res) => {
        await opened;
        res.send(text);
      };
    // This attempt is never renewed, as if its process were suspended.
    const short = { lease: '100ms', maxRun: '1ms' } as const;
    const first = await shop(kit, short, answering(one.opened, 'of the first'));
    const second = await shop(kit, {}, answering(two.opened, 'of the second'));
    const late = first.order('k');
    await until('it runs', () => first.runs() === 1);
    let retry = second.order('k');
    await until('it was taken over', async () => {
      if (second.runs() === 1) return true;
      if ((await Promise.race([retry, undefined]))?.status === 409) retry = second.order('k');
      return false;
    });
    one.open();
    expect((await late).text).toBe('of the first');
    expect(lost).toEqual([{ key: 'k', attempt: 1 }]);
    expect((await second.order('k')).status, 'the second is at it').toBe(409);
    two.open();
    expect((await retry).text).toBe('of the second');
    expect((await first.order('k')).text).toBe('of the second');
    expect([first.runs(), second.runs()]).toEqual([1, 1]);
  });

  it('a response is recorded when the handler calls next() after it', async () => {
    const { order, runs } = await shop(memory(), {}, (_req, res, next) => {
      res.send('body');
      next();
    });
    for (let turn = 0; turn < 2; turn++) expect((await order('k')).text).toBe('body');
    expect(runs()).toBe(1);
  });
});
