import { once } from 'node:events';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { addResponseHook, type ResponseHook } from '../../../src/http/response/guarded-response.ts';
import { ask, Exchange, type Handler, listen, logging, serve } from '../exchange.ts';
import { APPS, EXPRESS, mount, onError } from '../frameworks.ts';

const waiting: ResponseHook = {
  phase: 'session',
  beforeHeaders: () => setImmediate(),
  beforeEnd: () => setImmediate(),
};
const failing: ResponseHook = { phase: 'session', beforeEnd: () => Promise.reject(new Error('gone')) };

describe.each(APPS)('the response guard in %s', (_name, makeApp) => {
  it.each([[[waiting]], [[]]])('an error handler responds to the error of a handler', async (hooks) => {
    const app = makeApp();
    const log: string[] = [];
    app.use((_req, res, next) => {
      for (const hook of hooks) addResponseHook(res, hook);
      addResponseHook(res, logging(log, 'lock'));
      next();
    });
    app.use((_req, res) => {
      res.setHeader('X-Handler', 'a');
      throw new Error('broken');
    });
    onError(app, (error, res) => {
      res.statusCode = 418;
      res.end(error.message);
    });
    const { status, body } = await ask(await serve(app));
    expect([status, body]).toEqual([418, 'broken']);
    expect(log).toEqual(['lock headers', 'lock end']);
  });

  it('the error page of the framework waits for the hooks', async () => {
    const app = makeApp();
    const log: string[] = [];
    app.use((_req, res, next) => {
      addResponseHook(res, logging(log, 'session', true));
      next(new Error('broken'));
    });
    expect((await ask(await serve(app))).status).toBe(500);
    expect(log).toEqual(['session headers', 'session end']);
  });

  it('the hooks of a parent app run for responses of its sub-app', async () => {
    const [app, inner] = [makeApp(), makeApp()];
    const log: string[] = [];
    app.use((_req, res, next) => {
      addResponseHook(res, logging(log, 'session', true));
      next();
    });
    inner.use((_req, res) => {
      addResponseHook(res, logging(log, 'capture', true));
      res.end('inner');
    });
    mount(app, '/inner', inner);
    expect((await ask(await serve(app), { path: '/inner' })).body).toBe('inner');
    expect(log).toEqual(['capture headers', 'capture end', 'session headers', 'session end']);
  });

  it.each([[[waiting]], [[]]])(
    'a call of next() after the end of the response does not change the response',
    async (hooks) => {
      const app = makeApp();
      app.use((_req, res, next) => {
        for (const hook of [...hooks, logging([], 'lock')]) addResponseHook(res, hook);
        next();
      });
      app.use((_req, res, next) => {
        res.statusCode = 201;
        res.end('first');
        next();
      });
      const answer = await ask(await serve(app));
      expect([answer.status, answer.body, answer.isComplete]).toEqual([201, 'first', true]);
    },
  );
});

describe.each(EXPRESS)('the response guard with the methods of %s', (_name, makeApp) => {
  it('a call of next() after res.json() cannot change the response', async () => {
    const app = makeApp();
    app.use((_req, res, next) => {
      addResponseHook(res, waiting);
      next();
    });
    app.use((_req, res, next) => {
      res.status(201).set('X-A', '1').json({ first: true });
      next();
    });
    app.use((_req, res, next) => {
      res.status(500).set('X-A', '2').cookie('late', '1').json({ second: true });
      next();
    });
    const answer = await ask(await serve(app));
    expect([answer.status, answer.header('x-a'), answer.header('set-cookie'), answer.body]).toEqual([
      201,
      '1',
      undefined,
      '{"first":true}',
    ]);
  });

  it('res.send, res.sendFile, res.redirect and res.sendStatus send the same with and without hooks', async () => {
    const app = makeApp();
    app.use((req, res, next) => {
      if (req.query.hooks === 'yes') {
        addResponseHook(res, waiting);
        addResponseHook(res, { ...waiting, phase: 'lock', withholdsLastBytes: true });
      }
      next();
    });
    app.get('/send', (_req, res) => void res.send('<p>body</p>'));
    app.get('/file', (_req, res) => res.sendFile(import.meta.filename));
    app.get('/redirect', (_req, res) => res.redirect('/elsewhere'));
    app.get('/status', (_req, res) => void res.sendStatus(404));
    app.get('/json', (_req, res) => void res.json({ a: 1 }));
    const port = await serve(app);
    for (const path of ['/send', '/file', '/redirect', '/status', '/json']) {
      for (const method of ['GET', 'HEAD']) {
        const plain = await ask(port, { method, path });
        const hooked = await ask(port, { method, path: `${path}?hooks=yes` });
        expect(hooked.text).toBe(plain.text);
      }
    }
  });
});

describe('the response guard on plain HTTP', () => {
  it('one connection serves several guarded responses in order', async () => {
    const port = await serve((req, res) => {
      addResponseHook(res, waiting);
      addResponseHook(res, { ...waiting, phase: 'lock', withholdsLastBytes: true });
      if (req.url === '/3') res.write('streamed ');
      res.end(`answer ${req.url}`);
    });
    const requests = [1, 2, 3, 4].map((index) => `GET /${index} HTTP/1.1\r\nHost: a\r\n\r\n`);
    const socket = connectSocket(port, '127.0.0.1');
    onTestFinished(() => void socket.destroy());
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
    });
    // Pipelined: responses come in the order of the requests.
    socket.write(requests.join(''));
    while (!text.includes('answer /4')) await once(socket, 'data');
    expect([...text.matchAll(/answer \/\d/g)].join()).toBe('answer /1,answer /2,answer /3,answer /4');
  });

  it('a connection serves further requests after a refusal', async () => {
    const port = await serve((req, res) => {
      if (req.url === '/1') addResponseHook(res, failing);
      res.end('fine');
    });
    const exchange = new Exchange(port, { path: '/1', headers: { Connection: 'keep-alive' } });
    await once(exchange.socket, 'data');
    exchange.socket.write('GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    expect((await exchange.answer()).text).toMatch(/^HTTP\/1.1 503[\s\S]*HTTP\/1.1 200 OK[\s\S]*fine$/);
  });

  it('100-continue and early hints reach the client of a guarded response', async () => {
    const port = await serve((req, res) => {
      addResponseHook(res, waiting);
      res.writeEarlyHints({ link: '</style.css>; rel=preload' });
      req.resume().on('end', () => res.end('body'));
    });
    const { text } = await ask(port, {
      method: 'POST',
      headers: { Expect: '100-continue', 'Content-Length': '2' },
      body: 'ab',
    });
    expect(text).toMatch(
      /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 103 Early Hints\r\nLink: [\s\S]*HTTP\/1.1 200 OK[\s\S]*body$/,
    );
  });
});

describe('the response guard on HTTP/2 (compatibility API)', () => {
  const warnings: string[] = [];
  const remember = (warning: Error) => void warnings.push(warning.message);
  beforeAll(() => void process.on('warning', remember));
  afterAll(async () => {
    // Node emits warnings on the next tick, and only the first of each kind.
    await setImmediate();
    process.off('warning', remember);
    expect(warnings).toEqual([]);
  });

  const senders: Readonly<Record<string, Handler>> = {
    'end(body)': (_req, res) => {
      res.setHeader('X-A', '1');
      res.end('body');
    },
    'write and end': (_req, res) => {
      res.write('a');
      res.write('b', 'utf8', () => res.end('c'));
    },
    writeHead: (_req, res) => res.writeHead(201, { 'X-A': '1' }).end('body'),
    'a flat list': (_req, res) =>
      res.writeHead(201, ['X-A', '1', 'Set-Cookie', 'a', 'Set-Cookie', 'b']).end('body'),
    'an empty body': (_req, res) => res.end(),
    'a declared length': (_req, res) => {
      res.setHeader('Content-Length', '4');
      res.write('body');
      res.end();
    },
    'no body': (_req, res) => res.writeHead(204).end(),
    'end and then more': (_req, res) => {
      res.end('body');
      res.end('more');
    },
  };

  async function request(handler: Handler, method: string) {
    const server = createHttp2Server((req, res) => handler(req as never, res as never));
    const port = await listen(server);
    const client = connectHttp2(`http://127.0.0.1:${port}`);
    const stream = client.request({ ':path': '/', ':method': method });
    let body = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      body += chunk;
    });
    const [{ date: _date, ...headers }] = (await once(stream, 'response')) as [Record<string, unknown>];
    await once(stream, 'close');
    client.close();
    return { headers, body };
  }

  it.each(Object.entries(senders))(
    'a response sent by %s is the same as without the guard',
    async (_name, send) => {
      for (const method of ['GET', 'HEAD']) {
        for (const hook of [waiting, logging([], 'session'), { ...waiting, withholdsLastBytes: true }]) {
          const hooked = await request((req, res) => {
            addResponseHook(res, hook);
            send(req, res);
          }, method);
          expect(hooked).toEqual(await request(send, method));
        }
      }
    },
  );

  it.each<[string, Handler]>([
    ['flushHeaders()', (_req, res) => res.flushHeaders()],
    ['write()', (_req, res) => void res.write('event')],
  ])(
    'a client receives the response to HEAD on %s, although the handler never ends it',
    async (_way, send) => {
      for (const hook of [waiting, { ...waiting, withholdsLastBytes: true }]) {
        const { headers } = await request((req, res) => {
          addResponseHook(res, hook);
          send(req, res);
        }, 'HEAD');
        expect(headers).toMatchObject({ ':status': 200 });
      }
    },
  );

  it('a failing hook turns the response into a 503', async () => {
    const { headers, body } = await request((_req, res) => {
      addResponseHook(res, failing);
      res.setHeader('X-Secret', '1');
      res.end('secret');
    }, 'GET');
    expect(headers).toMatchObject({
      ':status': 503,
      'content-type': 'application/problem+json; charset=utf-8',
    });
    expect(headers).not.toHaveProperty('x-secret');
    expect(JSON.parse(body)).toMatchObject({ status: 503 });
  });
});
