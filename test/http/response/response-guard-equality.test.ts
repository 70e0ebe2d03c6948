import type { ServerResponse } from 'node:http';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { addResponseHook, type ResponseHook } from '../../../src/http/response/guarded-response.ts';
import { type Answer, ask, logging, serve } from '../exchange.ts';

type Note = (what: string) => (error?: Error | null) => void;
type Sender = (res: ServerResponse, note: Note) => unknown;

const waiting: ResponseHook = {
  phase: 'session',
  beforeHeaders: () => setImmediate(),
  beforeEnd: () => setImmediate(),
};

const WRAPPINGS: Readonly<Record<string, readonly ResponseHook[]>> = {
  'a hook that does not wait': [{ phase: 'capture' }],
  'a hook that waits': [waiting],
  'a hook that withholds the last bytes': [{ ...waiting, phase: 'lock', withholdsLastBytes: true }],
  'several hooks': [waiting, { ...waiting, phase: 'lock', withholdsLastBytes: true }, { phase: 'capture' }],
};

const SENDERS: Readonly<Record<string, Sender>> = {
  'end()': (res) => res.end(),
  'end(text)': (res) => res.end('Grüße'),
  'end(empty text)': (res) => res.end(''),
  'end(bytes)': (res) => res.end(Buffer.from('body')),
  'end(Uint8Array)': (res) => res.end(new Uint8Array([65, 66])),
  'end(undefined), as Express 4 calls it': (res) => res.end(undefined, 'utf8'),
  'end(0), which Node takes for nothing': (res) => Reflect.apply(res.end, res, [0]),
  'end(callback)': (res, note) => res.end(note('end')),
  'end(text, callback)': (res, note) => res.end('body', note('end')),
  'end(text, encoding)': (res) => res.end('Z3LDvMOfZQ==', 'base64'),
  'end(text, encoding, callback)': (res, note) => res.end('é', 'latin1', note('end')),
  'end(bytes, null, callback)': (res, note) =>
    Reflect.apply(res.end, res, [Buffer.from('body'), null, note('end')]),
  'write(text) and end()': (res) => {
    res.write('body');
    res.end();
  },
  'writes in every form': (res, note) => {
    res.write('a', note('1'));
    res.write('Yg==', 'base64');
    res.write('c', 'utf8', note('2'));
    res.write(Buffer.from('d'), note('3'));
    Reflect.apply(res.write, res, ['e', undefined, note('4')]);
    res.end('f', note('end'));
  },
  'empty chunks': (res, note) => {
    res.write('', note('1'));
    res.write(Buffer.alloc(0), note('2'));
    res.write('a');
    res.write('', note('3'));
    res.end('', note('end'));
  },
  'writes with a declared length': (res, note) => {
    res.setHeader('Content-Length', 6);
    res.write('one', note('1'));
    res.write('two', note('2'));
    res.end(note('end'));
  },
  'a length declared as nothing': (res) => {
    res.setHeader('Content-Length', '0');
    res.flushHeaders();
    res.end();
  },
  'writeHead(status)': (res) => res.writeHead(204).end(),
  'writeHead(status as text)': (res) => Reflect.apply(res.writeHead, res, ['404']).end('none'),
  'writeHead with headers': (res) => res.writeHead(201, { 'X-A': '1', 'x-list': ['2', '3'], n: 4 }).end('a'),
  'writeHead with headers on top of others': (res) =>
    res.setHeader('x-a', '0').setHeader('X-B', '0').writeHead(200, { 'X-A': '1' }).end('a'),
  'writeHead with a message': (res) => res.writeHead(200, 'Fine', { 'X-A': '1' }).end('a'),
  'writeHead with no message but headers': (res) =>
    Reflect.apply(res.writeHead, res, [200, undefined, { 'X-A': '1' }]).end('a'),
  'writeHead with a flat list': (res) =>
    res.writeHead(200, ['X-A', '1', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2']).end('a'),
  'writeHead with pairs': (res) =>
    Reflect.apply(res.writeHead, res, [
      200,
      [
        ['X-A', '1'],
        ['Set-Cookie', 'a=1'],
        ['Set-Cookie', 'b=2'],
      ],
    ]).end('a'),
  'a status message': (res) => {
    res.statusCode = 404;
    res.statusMessage = 'Nowhere';
    res.end('none');
  },
  '304 with a body, which Node leaves out': (res) => {
    res.statusCode = 304;
    res.write('a');
    res.end('b');
  },
  'flushHeaders()': (res) => {
    res.flushHeaders();
    res.write('a');
    res.end('b');
  },
  'trailers, which Node refuses for HEAD': (res) => {
    if (res.req.method === 'HEAD') return res.end();
    res.setHeader('Trailer', 'X-Sum');
    res.write('a');
    res.addTrailers({ 'X-Sum': '1' });
    return res.end('b');
  },
  'cork and uncork': (res) => {
    res.cork();
    res.write('a');
    res.write('b');
    res.uncork();
    res.end();
  },
  'no Date and no keep-alive': (res) => {
    res.sendDate = false;
    res.shouldKeepAlive = false;
    res.end('a');
  },
};

/** The response that the client receives, and the callbacks in the order of their calls. */
async function observe(method: string, send: Sender, hooks: readonly ResponseHook[]) {
  const called: string[] = [];
  const note: Note = (what) => (error) => called.push(error ? `${what}: ${error.message}` : what);
  const port = await serve((_req, res) => {
    for (const hook of hooks) addResponseHook(res, hook);
    send(res, note);
  });
  return { answer: await ask(port, { method }), called: called.sort() };
}

/** Node sends Content-Length only if it creates the head in `end()`, as it always does with the guard. */
function unframed({ status, message, headers, body, isComplete }: Answer) {
  const framing = /^(content-length|transfer-encoding)$/i;
  return { status, message, headers: headers.filter(([name]) => !framing.test(name)), body, isComplete };
}

describe.each(Object.entries(WRAPPINGS))('a response with %s equals that of Node alone', (_with, hooks) => {
  it.each(Object.entries(SENDERS))(
    'a response sent by %s is the same as without the guard',
    async (name, send) => {
      const [ours, plain] = [await observe('GET', send, hooks), await observe('GET', send, [])];
      expect(ours.called).toEqual(plain.called);
      if (name.startsWith('writeHead')) expect(unframed(ours.answer)).toEqual(unframed(plain.answer));
      else expect(ours.answer.text).toBe(plain.answer.text);
    },
  );
  it.each(Object.entries(SENDERS))(
    'a response to HEAD sent by %s is the same as without the guard',
    async (_name, send) => {
      expect(await observe('HEAD', send, hooks)).toEqual(await observe('HEAD', send, []));
    },
  );
});

const MISTAKES: Readonly<Record<string, Sender>> = {
  'write(a number)': (res) => Reflect.apply(res.write, res, [5]),
  'write(null)': (res) => Reflect.apply(res.write, res, [null]),
  'write(an object)': (res) => Reflect.apply(res.write, res, [{}]),
  'end(a number)': (res) => Reflect.apply(res.end, res, [5]),
  'end(an object)': (res) => Reflect.apply(res.end, res, [{}]),
  'writeHead(a status that there is not)': (res) => res.writeHead(99),
  'writeHead(no status)': (res) => Reflect.apply(res.writeHead, res, ['none']),
  'writeHead with an invalid header': (res) => res.writeHead(200, { 'X-A': 'a\nb' }).end(),
  'writeHead with an undefined header': (res) =>
    Reflect.apply(res.writeHead, res, [200, { 'X-A': undefined }]).end(),
  'writeHead with an odd list': (res) => res.writeHead(200, ['X-A', '1', 'X-B']).end(),
  'end() with a status that there is not': (res) => {
    res.statusCode = 1000;
    res.end('a');
  },
  'write() with a status that there is not': (res) => {
    res.statusCode = 0;
    res.write('a');
  },
};

describe.each(Object.entries(WRAPPINGS))("a handler's mistake with %s", (_with, hooks) => {
  /** A handler that catches its error and responds, as an error handler would. */
  async function blunder(send: Sender, wrapped: readonly ResponseHook[]) {
    const codes: unknown[] = [];
    const port = await serve((_req, res) => {
      for (const hook of wrapped) addResponseHook(res, hook);
      try {
        send(res, () => () => undefined);
      } catch (error) {
        codes.push(Reflect.get(Object(error), 'code'), res.headersSent);
        res.statusCode = 500;
        res.end('sorry');
      }
    });
    const { status, body } = await ask(port);
    return { codes, status, body };
  }

  it.each(Object.entries(MISTAKES))(
    'a mistake by %s throws the same error as without the guard',
    async (_name, send) => {
      const plain = await blunder(send, []);
      expect(plain.codes).toHaveLength(2);
      expect(await blunder(send, hooks)).toEqual(plain);
    },
  );
});

it('a response that Node rejects only when it is sent ends the connection, and never the process', async () => {
  const crashes: unknown[] = [];
  const remember = (error: unknown) => void crashes.push(error);
  process.on('uncaughtException', remember);
  process.on('unhandledRejection', remember);
  onTestFinished(() => {
    process.off('uncaughtException', remember);
    process.off('unhandledRejection', remember);
  });
  const blunders: readonly ((res: ServerResponse) => void)[] = [
    (res) => {
      res.statusMessage = 'a\nb';
      res.end('body');
    },
    (res) => {
      res.statusMessage = 'a\nb';
      res.write('body');
      res.end();
    },
    (res) => Reflect.apply(res.end, res, ['body', 'no encoding']),
    (res) => {
      res.setHeader('Content-Length', 2);
      res.strictContentLength = true;
      res.end('body');
    },
  ];
  const port = await serve((req, res) => {
    addResponseHook(res, waiting);
    blunders[Number(req.url?.slice(1))]?.(res);
  });
  for (const index of blunders.keys()) {
    expect((await ask(port, { path: `/${index}` })).text).toBe('');
  }
  expect(crashes).toEqual([]);
});

it.each<readonly [string, Sender]>([
  ['end()', (res) => res.end('body')],
  ['write()', (res) => res.write('body')],
])(
  'an error that Node throws when %s sends the head reaches the handler, which may send another response, if no hook waits',
  async (_name, send) => {
    const log: string[] = [];
    const port = await serve((_req, res) => {
      addResponseHook(res, logging(log, 'session'));
      res.statusMessage = 'a\nb';
      try {
        send(res, () => () => undefined);
      } catch {
        log.push(`threw, headers sent: ${res.headersSent}, ended: ${res.writableEnded}`);
        res.statusMessage = 'Sorry';
        res.end('sorry');
      }
    });
    const answer = await ask(port);
    expect([answer.message, answer.body]).toEqual(['Sorry', 'sorry']);
    expect(log).toContain('threw, headers sent: false, ended: false');
    expect(log.filter((entry) => entry === 'session end')).toHaveLength(1);
  },
);
