import { once } from 'node:events';
import { createServer, ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import compression from 'compression';
import inject from 'light-my-request';
import { createMocks } from 'node-mocks-http';
import onHeaders from 'on-headers';
import { describe, expect, it, onTestFinished } from 'vitest';
import { addResponseHook } from '../../../src/http/response/guarded-response.ts';
import { importCopy } from '../../support/compiled-kit.ts';
import { compression17, onHeaders102 } from '../../support/older-releases.ts';
import { ask, type Handler, listen, logging, serve } from '../exchange.ts';
import { APPS, mount } from '../frameworks.ts';
import { guard, METHODS, ownMethods, RAN } from './guard.ts';

const SERVERS: readonly (readonly [name: string, start: (handler: Handler) => Handler])[] = [
  ['node:http', (handler) => handler],
  ...APPS.flatMap(([name, makeApp]) => [
    [name, (handler: Handler) => makeApp().use(handler) as Handler] as const,
    [
      `a sub-app of ${name}`,
      (handler: Handler) => {
        const [app, inner] = [makeApp(), makeApp()];
        inner.use(handler);
        mount(app, '/', inner);
        return app;
      },
    ] as const,
  ]),
];

/** Ways in which a handler may send a response. */
const SENDERS: Readonly<Record<string, (res: ServerResponse) => void>> = {
  'end(body)': (res) => void res.end('body'),
  'write() and end()': (res) => {
    res.setHeader('X-A', ['1', '2']);
    res.write('bo');
    res.end('dy');
  },
  'writeHead() with a message': (res) => void res.writeHead(201, 'Made', { 'X-A': '1' }).end('body', 'utf8'),
  'writeHead() with a flat list': (res) => void res.writeHead(202, ['X-A', '1', 'X-A', '2']).end(),
  'flushHeaders()': (res) => {
    res.flushHeaders();
    res.end();
  },
  'destroy()': (res) => void res.destroy(),
};

describe('a response without hooks', () => {
  const handler: Handler = (req, res) => {
    if (req.url === '/guarded') guard(res, []);
    (SENDERS[decodeURIComponent(req.url?.slice(1) ?? '')] ?? SENDERS['end(body)'])?.(res);
  };

  async function sendAll(): Promise<string[]> {
    const texts: string[] = [];
    for (const [, start] of SERVERS) {
      const port = await serve(start(handler));
      for (const sender of Object.keys(SENDERS)) {
        texts.push((await ask(port, { path: `/${encodeURIComponent(sender)}` })).text);
      }
    }
    return texts;
  }

  // The first test of this file: nothing has installed the methods yet.
  it('a response without hooks is sent as before the methods were installed on its prototype', async () => {
    expect(ownMethods(ServerResponse.prototype)).toEqual(['writeHead']);
    const native = await sendAll();
    expect((await ask(await serve(handler), { path: '/guarded' })).body).toBe('body');
    expect(ownMethods(ServerResponse.prototype)).toEqual(expect.arrayContaining([...METHODS]));
    expect(await sendAll()).toEqual(native);
  });
});

describe.each(SERVERS)('a guarded response of %s', (_name, start) => {
  it.each([false, true])('a guarded response has no methods of its own (hook waits: %s)', async (waits) => {
    const log: string[] = [];
    let own: readonly string[] | undefined;
    const port = await serve(
      start((_req, res) => {
        guard(res, log, waits);
        res.writeHead(201, { 'X-A': '1' });
        res.write('bo');
        res.end('dy');
        own = ownMethods(res);
      }),
    );
    const answer = await ask(port);
    expect([answer.status, answer.header('x-a'), answer.body]).toEqual([201, '1', 'body']);
    expect(log.map((entry) => entry.replace('late ', ''))).toEqual(RAN);
    expect(own).toEqual([]);
  });

  it.each([
    ['on-headers 1.1.0', onHeaders],
    ['on-headers 1.0.2', onHeaders102],
  ])(
    'a guarded response has a method of its own only in place of a wrapper of %s',
    async (_version, listenTo) => {
      const log: string[] = [];
      let own: readonly string[] | undefined;
      const port = await serve(
        start((_req, res) => {
          listenTo(res, () => void log.push('above'));
          guard(res, log);
          own = ownMethods(res);
          listenTo(res, () => void log.push('below'));
          res.end('body');
        }),
      );
      expect((await ask(port)).body).toBe('body');
      expect(log).toEqual(['below', ...RAN, 'above']);
      expect(own).toEqual(['writeHead']);
    },
  );

  it.each([
    ['compression 1.8', compression],
    ['compression 1.7', compression17],
  ])(
    'a response that %s compresses above and below the guard arrives complete',
    async (_version, compress) => {
      for (const place of ['above', 'below']) {
        const log: string[] = [];
        const body = 'a body '.repeat(1_000);
        const compressor = compress({ threshold: 0 });
        const port = await serve(
          start((req, res) => {
            const answer = () => {
              res.setHeader('Content-Type', 'text/plain');
              res.write(body);
              res.end(body);
            };
            const compressed = (next: () => void) => compressor(req as never, res as never, next);
            if (place === 'above') {
              compressed(() => {
                guard(res, log);
                answer();
              });
            } else {
              guard(res, log);
              compressed(answer);
            }
          }),
        );
        const answer = await fetch(`http://127.0.0.1:${port}/`);
        expect(answer.headers.get('content-encoding')).toBe('gzip');
        expect(await answer.text()).toBe(body + body);
        expect(log.map((entry) => entry.replace('late ', ''))).toEqual(RAN);
      }
    },
  );
});

describe('the methods on the prototype of a response', () => {
  /** Wraps `end` on the prototype of all responses until the test ends, as tracers do. */
  function trace(log: string[]): void {
    const { end } = ServerResponse.prototype;
    onTestFinished(() => void Object.assign(ServerResponse.prototype, { end }));
    Object.assign(ServerResponse.prototype, {
      end(this: ServerResponse, ...args: unknown[]) {
        log.push('traced');
        return Reflect.apply(end, this, args);
      },
    });
  }

  it('a tracer that wraps them later sees each call once', async () => {
    const log: string[] = [];
    const port = await serve((_req, res) => {
      guard(res, log);
      if (log.length === 0) trace(log);
      res.end('body');
    });
    expect((await ask(port)).body).toBe('body');
    expect(log).toEqual(['traced', ...RAN]);
    expect((await ask(port)).body).toBe('body');
    expect(log.slice(3)).toEqual([...RAN, 'traced']);
  });

  it('two copies of the kit share them, and the hooks of each run once, the last added first', async () => {
    const { end } = ServerResponse.prototype;
    const path = 'src/http/response/guarded-response.ts';
    const { addResponseHook: copy } =
      await importCopy<typeof import('../../../src/http/response/guarded-response.ts')>(path);
    expect(copy).not.toBe(addResponseHook);
    for (const [first, second] of [
      [addResponseHook, copy],
      [copy, addResponseHook],
    ] as const) {
      const log: string[] = [];
      const port = await serve((_req, res) => {
        first(res, logging(log, 'session', true));
        second(res, logging(log, 'lock', true));
        first(res, logging(log, 'capture'));
        res.writeHead(201).end('body');
      });
      const answer = await ask(port);
      expect([answer.status, answer.body]).toEqual([201, 'body']);
      expect(log).toEqual([
        'lock headers',
        'lock end',
        'capture headers',
        'capture end',
        'session headers',
        'session end',
      ]);
    }
    expect(ServerResponse.prototype.end).toBe(end);
  });

  it('a response of HTTP/2 has no methods of its own, and its hooks run once', async () => {
    const log: string[] = [];
    let own: readonly string[] | undefined;
    const server = createHttp2Server((_req, res) => {
      guard(res as never, log, true);
      res.writeHead(201, { 'x-a': '1' });
      res.write('bo');
      res.end('dy');
      own = ownMethods(res);
    });
    const client = connectHttp2(`http://127.0.0.1:${await listen(server)}`);
    const stream = client.request();
    let body = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk;
    });
    const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
    await once(stream, 'close');
    client.close();
    // Responses of HTTP/2 have no `writableNeedDrain` in some versions of Node. It is then a property of the response.
    expect([headers[':status'], headers['x-a'], body]).toEqual([201, '1', 'body']);
    expect(log.map((entry) => entry.replace('late ', ''))).toEqual(RAN);
    expect(own?.filter((name) => name !== 'writableNeedDrain')).toEqual([]);
  });
});

describe('a response of a class that is not of Node', () => {
  const send: Handler = (_req, res) => void res.writeHead(201, { 'X-A': '1' }).end('body');

  it('the hooks of a response of light-my-request run once', async () => {
    const log: string[] = [];
    const answer = await inject((req, res) => {
      guard(res, log, true);
      send(req as never, res);
    }, '/');
    expect([answer.statusCode, answer.headers['x-a'], answer.payload]).toEqual([201, '1', 'body']);
    expect(log).toEqual(RAN);
  });

  it('the hooks of a response of node-mocks-http run once', () => {
    const log: string[] = [];
    const { req, res } = createMocks();
    guard(res, log);
    send(req, res);
    expect([res.statusCode, res.getHeader('x-a'), res._getData()]).toEqual([201, '1', 'body']);
    expect(log).toEqual(RAN);
  });

  it('the hooks of a response run once although its class is frozen', async () => {
    class Response extends ServerResponse {
      override end(...args: unknown[]): this {
        return Reflect.apply(super.end, this, args) as this;
      }
    }
    Object.freeze(Response.prototype);
    const log: string[] = [];
    const server = createServer({ ServerResponse: Response }, (req, res) => {
      guard(res, log, true);
      send(req, res);
    });
    const answer = await ask(await listen(server));
    expect([answer.status, answer.header('x-a'), answer.body]).toEqual([201, '1', 'body']);
    expect(log).toEqual(RAN);
  });
});
