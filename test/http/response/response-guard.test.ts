import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { addResponseHook } from '../../../src/http/response/guarded-response.ts';
import { ask, Exchange, Gate, logging, roundTrip, serve } from '../exchange.ts';

describe('the hooks', () => {
  it.each([false, true])(
    'hooks run in the order of their phases, not of their registration (waiting: %s)',
    async (waits) => {
      const log: string[] = [];
      const port = await serve((_req, res) => {
        for (const phase of ['lock', 'session', 'idempotency', 'capture'] as const) {
          addResponseHook(res, logging(log, phase, waits));
        }
        res.end('body');
      });
      expect((await ask(port)).body).toBe('body');
      expect(log).toEqual(
        ['capture', 'session', 'idempotency', 'lock'].flatMap((phase) => [
          `${phase} headers`,
          `${phase} end`,
        ]),
      );
    },
  );

  it('a hook is called once for the headers and once for the end of a streamed response', async () => {
    const log: string[] = [];
    const port = await serve(async (_req, res) => {
      addResponseHook(res, logging(log, 'session', true));
      addResponseHook(res, logging(log, 'capture'));
      res.write('a');
      await roundTrip(port);
      res.write('b');
      res.end('c');
    });
    expect((await ask(port)).body).toBe('abc');
    expect(log).toEqual(['capture headers', 'session headers', 'capture late end', 'session late end']);
  });

  it('all hooks run before anything is sent if the handler calls end() while a hook waits', async () => {
    const log: string[] = [];
    const port = await serve((_req, res) => {
      addResponseHook(res, logging(log, 'session', true));
      res.write('a');
      res.end('b');
    });
    expect((await ask(port)).body).toBe('ab');
    expect(log).toEqual(['session headers', 'session end']);
  });

  it('all hooks of a response share one wrapper', async () => {
    const port = await serve((_req, res) => {
      addResponseHook(res, { phase: 'session' });
      const { write, end, writeHead } = res;
      addResponseHook(res, { phase: 'lock' });
      res.end(String(res.write === write && res.end === end && res.writeHead === writeHead));
    });
    expect((await ask(port)).body).toBe('true');
  });

  it('hooks that do not wait cost no turn of the event loop', async () => {
    let isFinished: boolean | undefined;
    const port = await serve((_req, res) => {
      addResponseHook(res, logging([], 'session'));
      res.end('body');
      // `finished` is Node's own property, which the guard does not override.
      isFinished = res.finished;
    });
    await ask(port);
    expect(isFinished).toBe(true);
  });

  it('hooks receive the body as the handler wrote it, in its encoding', async () => {
    const heard: Buffer[] = [];
    const port = await serve((_req, res) => {
      addResponseHook(res, { phase: 'capture', chunk: (chunk) => void heard.push(chunk) });
      res.write('6869', 'hex');
      res.write(Buffer.from(' '));
      res.end('4pi6', 'base64');
    });
    await ask(port);
    expect(Buffer.concat(heard).toString()).toBe('hi ☺');
  });

  it('a hook that is added after the end of the response runs at once, so that its lock is released', async () => {
    const log: string[] = [];
    const port = await serve((_req, res) => {
      addResponseHook(res, logging(log, 'session', true));
      res.end('body');
      addResponseHook(res, logging(log, 'lock'));
    });
    expect((await ask(port)).body).toBe('body');
    expect(log).toEqual(['session headers', 'lock late end', 'session end']);
  });

  it('a hook that is the first of its response runs even if added after the end of the response', async () => {
    const log: string[] = [];
    const port = await serve((_req, res) => {
      res.end('body');
      addResponseHook(res, logging(log, 'lock'));
      res.end('again');
    });
    expect((await ask(port)).body).toBe('body');
    expect(log).toEqual(['lock late end']);
  });
});

describe('a response whose hooks wait', () => {
  const ways: Readonly<Record<string, (res: ServerResponse) => void>> = {
    'end()': (res) => res.end(),
    'end(body)': (res) => res.end('body'),
    'write() and end()': (res) => {
      res.write('body');
      res.end();
    },
    'write()': (res) => res.write('body'),
    'writeHead() and end()': (res) => res.writeHead(201, { 'X-A': '1' }).end('body'),
    'flushHeaders()': (res) => res.flushHeaders(),
  };
  it.each(Object.entries(ways))(
    'nothing that %s sends reaches the client before the hooks have run',
    async (_name, send) => {
      const gate = new Gate();
      const port = await serve((_req, res) => {
        addResponseHook(res, { phase: 'session', beforeHeaders: () => gate.promise });
        send(res);
      });
      const exchange = new Exchange(port);
      await roundTrip(port);
      await roundTrip(port);
      expect(exchange.text).toBe('');
      gate.open();
      await once(exchange.socket, 'data');
      expect(exchange.text).toMatch(/^HTTP\/1.1 20/);
    },
  );
});

describe('a client that disconnects', () => {
  it.each(['/', '/streamed'])(
    'hooks are notified of a disconnect, and still run once when the handler ends (%s)',
    async (path) => {
      const log: string[] = [];
      const isClosed = new Gate();
      const isOver = new Gate();
      const port = await serve(async (req, res) => {
        addResponseHook(res, { ...logging(log, 'lock', true), closedEarly: isClosed.open });
        if (req.url === '/streamed') res.write('a');
        await once(res, 'close');
        log.push('closed');
        res.end('late', isOver.open);
        res.end('later', isOver.open);
        isOver.open();
      });
      const exchange = new Exchange(port, { path });
      await roundTrip(port);
      exchange.socket.destroy();
      await isClosed.promise;
      await isOver.promise;
      await roundTrip(port);
      expect(log.filter((entry) => entry.endsWith('end'))).toHaveLength(1);
      expect(log.at(-1)).toMatch(/end$/);
    },
  );

  it('a disconnect after the end of the response does not call `closedEarly`', async () => {
    let isClosedEarly = false;
    const port = await serve((_req, res) => {
      addResponseHook(res, {
        phase: 'lock',
        closedEarly() {
          isClosedEarly = true;
        },
      });
      res.end('body');
    });
    await ask(port);
    expect(isClosedEarly).toBe(false);
  });
});
