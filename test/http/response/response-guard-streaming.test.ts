import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import compression from 'compression';
import { describe, expect, it } from 'vitest';
import { addResponseHook, type ResponseHook } from '../../../src/http/response/guarded-response.ts';
import { type Answer, ask, Exchange, Gate, type Handler, roundTrip, serve } from '../exchange.ts';

const saving: ResponseHook = {
  phase: 'session',
  beforeHeaders: () => setImmediate(),
  beforeEnd: () => setImmediate(),
};
const locking: ResponseHook = {
  phase: 'lock',
  withholdsLastBytes: true,
  outlastsRefusal: true,
  beforeEnd: () => setImmediate(),
};
const failing: ResponseHook = {
  phase: 'session',
  beforeHeaders: () => setImmediate().then(() => Promise.reject(new Error('gone'))),
};

const PIECES = 200;

/** More bytes than all buffers between server and client can hold. */
function* manyPieces(): Generator<Buffer> {
  for (let index = 0; index < PIECES; index++) yield Buffer.alloc(50_000, `piece ${index} `);
}

const WHOLE = digest(Buffer.concat([...manyPieces()]));

function digest(bytes: Buffer): string {
  return createHash('sha1').update(bytes).digest('hex');
}

function bytesOf(answer: Answer): Buffer {
  const body = Buffer.from(answer.body, 'latin1');
  const encoding = answer.header('content-encoding');
  if (encoding === 'gzip') return gunzipSync(body);
  return encoding === 'br' ? brotliDecompressSync(body) : body;
}

const SENDERS: Readonly<Record<string, (res: ServerResponse) => unknown>> = {
  'pipe()': (res) => Readable.from(manyPieces()).pipe(res),
  'stream.pipeline()': (res) => pipeline(Readable.from(manyPieces()), res),
  'write() and drain': async (res) => {
    for (const piece of manyPieces()) if (!res.write(piece)) await once(res, 'drain');
    res.end();
  },
  'awaited writes': async (res) => {
    for (const piece of manyPieces()) await new Promise((resolve) => res.write(piece, resolve));
    res.end();
  },
};

const HOOKS: readonly (readonly [string, readonly ResponseHook[]])[] = [
  ['a hook that waits', [saving]],
  ['a hook that withholds the last bytes', [locking]],
  ['both', [saving, locking]],
];

describe.each(HOOKS)('a large stream under %s', (_name, hooks) => {
  it.each(Object.entries(SENDERS))('a large stream sent by %s arrives complete', async (_way, send) => {
    const port = await serve((_req, res) => {
      for (const hook of hooks) addResponseHook(res, hook);
      send(res);
    });
    const answer = await ask(port);
    expect(digest(bytesOf(answer))).toBe(WHOLE);
    expect(answer.isComplete).toBe(true);
  });

  it.each(Object.entries(SENDERS))(
    'a large stream sent by %s with a declared length arrives complete',
    async (_way, send) => {
      const port = await serve((_req, res) => {
        for (const hook of hooks) addResponseHook(res, hook);
        res.setHeader('Content-Length', Buffer.concat([...manyPieces()]).length);
        send(res);
      });
      expect(digest(bytesOf(await ask(port)))).toBe(WHOLE);
    },
  );
});

it('a write that waits for a hook returns false once the high-water mark of a socket is exceeded', async () => {
  const gate = new Gate();
  const isFull: boolean[] = [];
  const port = await serve(async (_req, res) => {
    addResponseHook(res, { phase: 'session', beforeHeaders: () => gate.promise });
    isFull.push(!res.write('a'));
    isFull.push(!res.write(Buffer.alloc(res.writableHighWaterMark)));
    gate.open();
    await once(res, 'drain');
    res.end('z');
  });
  expect((await ask(port)).body).toMatch(/^a\0+z$/);
  expect(isFull).toEqual([false, true]);
});

describe('compression()', () => {
  const compress = compression({ threshold: 0 });
  const orders: Readonly<Record<string, (handler: Handler, hooks: readonly ResponseHook[]) => Handler>> = {
    'outside the hooks': (handler, hooks) => (req, res) => {
      compress(req as never, res as never, () => {
        for (const hook of hooks) addResponseHook(res, hook);
        handler(req, res);
      });
    },
    'inside the hooks': (handler, hooks) => (req, res) => {
      for (const hook of hooks) addResponseHook(res, hook);
      compress(req as never, res as never, () => handler(req, res));
    },
  };
  const text = { 'Content-Type': 'text/plain' };
  const senders: Readonly<Record<string, (req: IncomingMessage, res: ServerResponse) => unknown>> = {
    'end()': (_req, res) => res.writeHead(200, text).end('body '.repeat(1_000)),
    'implicit headers': (_req, res) => res.setHeader('Content-Type', 'text/plain').end('body '.repeat(1_000)),
    'a declared length': (_req, res) =>
      res.writeHead(200, { ...text, 'Content-Length': 5_000 }).end('body '.repeat(1_000)),
    'small writes': (_req, res) => {
      res.setHeader('Content-Type', 'text/plain');
      for (let index = 0; index < 1_000; index++) res.write('body ');
      res.end();
    },
    'a pipe of small pieces': (_req, res) => {
      res.setHeader('Content-Type', 'text/plain');
      Readable.from(Array.from({ length: 1_000 }, () => 'body ')).pipe(res);
    },
  };

  describe.each(Object.entries(orders))('%s', (_order, wrap) => {
    it.each(Object.entries(senders))(
      'compression() compresses a response that is sent by %s',
      async (_way, send) => {
        for (const [, hooks] of HOOKS) {
          const port = await serve(wrap(send, hooks));
          const answer = await ask(port, { headers: { 'Accept-Encoding': 'gzip' } });
          expect(answer.header('content-encoding')).toBe('gzip');
          expect(bytesOf(answer).toString()).toBe('body '.repeat(1_000));
          expect(answer.isComplete).toBe(true);
        }
      },
    );

    it.each(Object.entries(SENDERS).slice(0, 2))(
      'a large stream that is sent by %s passes compression() in full',
      async (_way, send) => {
        for (const [, hooks] of HOOKS) {
          const port = await serve(
            wrap((_req, res) => {
              res.setHeader('Content-Type', 'text/plain');
              send(res);
            }, hooks),
          );
          const answer = await ask(port, { headers: { 'Accept-Encoding': 'br' } });
          expect(answer.header('content-encoding')).toBe('br');
          expect(digest(bytesOf(answer))).toBe(WHOLE);
        }
      },
    );

    it.each(Object.entries(senders))(
      'a client can read the refusal of a failed hook under compression() when a handler sends by %s',
      async (_way, send) => {
        const port = await serve(wrap(send, [failing]));
        const answer = await ask(port, { headers: { 'Accept-Encoding': 'gzip' } });
        expect(answer.status).toBe(503);
        expect(answer.isComplete).toBe(true);
        expect(JSON.parse(bytesOf(answer).toString())).toMatchObject({ status: 503 });
      },
    );
  });
});

describe('a lock', () => {
  /** Returns the bytes that arrived before the lock was released. */
  async function arrivesBefore(send: Handler, method = 'GET') {
    const free = new Gate();
    const isAsked = new Gate();
    const port = await serve((req, res) => {
      addResponseHook(res, {
        phase: 'lock',
        withholdsLastBytes: true,
        beforeEnd() {
          isAsked.open();
          return free.promise;
        },
      });
      send(req, res);
    });
    const exchange = new Exchange(port, { method });
    await isAsked.promise;
    await roundTrip(port);
    await roundTrip(port);
    const before = exchange.text;
    free.open();
    return { before, answer: await exchange.answer() };
  }

  it('the write that completes a declared length is withheld until the lock is released', async () => {
    const { before, answer } = await arrivesBefore((_req, res) => {
      res.setHeader('Content-Length', 6);
      res.write('one');
      res.write('two');
      res.end();
    });
    expect(before.endsWith('one')).toBe(true);
    expect(answer.body).toBe('onetwo');
  });

  it('a withheld write calls its callback at once, and its buffer can be reused', async () => {
    const { before, answer } = await arrivesBefore((_req, res) => {
      const buffer = Buffer.from('body');
      res.setHeader('Content-Length', 4);
      res.write(buffer, () => {
        buffer.fill('x');
        res.end();
      });
    });
    expect(before).toBe('');
    expect(answer.body).toBe('body');
  });

  it('the last chunk of a stream without a length is withheld until the lock is released', async () => {
    const { before, answer } = await arrivesBefore((_req, res) => {
      res.write('one');
      res.end('two');
    });
    expect(before).toMatch(/3\r\none\r\n$/);
    expect(answer.body).toBe('onetwo');
  });

  it.each([204, 304])('headers that are the whole response wait for the release (%s)', async (status) => {
    const { before, answer } = await arrivesBefore((_req, res) => {
      res.statusCode = status;
      res.flushHeaders();
      res.write('body', () => res.end());
    });
    expect(before).toBe('');
    expect(answer.status).toBe(status);
    expect(answer.rawBody).toBe('');
  });

  it('the headers of a response to HEAD without flushHeaders() wait for the release', async () => {
    const { before, answer } = await arrivesBefore((_req, res) => {
      res.write('body', () => res.end());
    }, 'HEAD');
    expect(before).toBe('');
    expect([answer.status, answer.rawBody]).toEqual([200, '']);
  });

  it('the headers of an empty body are withheld until the lock is released', async () => {
    const { before, answer } = await arrivesBefore((_req, res) => {
      res.setHeader('Content-Length', 0);
      res.flushHeaders();
      res.end();
    });
    expect(before).toBe('');
    expect(answer.status).toBe(200);
  });

  it('the headers of a stream are sent on flushHeaders(), before the lock is released', async () => {
    const port = await serve((_req, res) => {
      addResponseHook(res, locking);
      res.flushHeaders();
    });
    const exchange = new Exchange(port);
    await once(exchange.socket, 'data');
    expect(exchange.text).toMatch(/^HTTP\/1.1 200 OK/);
    exchange.socket.destroy();
  });

  it.each<[string, (res: ServerResponse) => unknown]>([
    ['flushHeaders()', (res) => res.flushHeaders()],
    ['writeHead() and flushHeaders()', (res) => res.writeHead(200).flushHeaders()],
    ['flushHeaders() and write()', (res) => res.flushHeaders() ?? res.write('event')],
    ['write() and flushHeaders()', (res) => res.write('event') && res.flushHeaders()],
    [
      'write() with a length and flushHeaders()',
      (res) => {
        res.setHeader('Content-Length', 100);
        res.write('event');
        res.flushHeaders();
      },
    ],
  ])(
    'a client receives the response to HEAD on %s, although the handler never ends it',
    async (_way, send) => {
      for (const [, hooks] of HOOKS) {
        const port = await serve((_req, res) => {
          for (const hook of hooks) addResponseHook(res, hook);
          send(res);
        });
        const exchange = new Exchange(port, { method: 'HEAD' });
        await once(exchange.socket, 'data');
        expect(exchange.text).toMatch(/^HTTP\/1.1 200 OK/);
        exchange.socket.destroy();
      }
    },
  );

  it('a lock is held until the handler ends its response, even if another hook has failed', async () => {
    const log: string[] = [];
    const port = await serve(async (_req, res) => {
      addResponseHook(res, failing);
      addResponseHook(res, {
        ...locking,
        beforeEnd() {
          log.push('released');
          return undefined;
        },
      });
      await pipeline(Readable.from(manyPieces()), res, { end: false });
      log.push('handler done');
      res.end();
    });
    const answer = await ask(port);
    expect([answer.status, answer.isComplete]).toEqual([503, true]);
    expect(log).toEqual(['handler done', 'released']);
  });
});
