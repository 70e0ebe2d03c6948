import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { addResponseHook, type ResponseHook } from '../../../src/http/response/guarded-response.ts';
import { ask, Gate, type Handler, logging, roundTrip, serve } from '../exchange.ts';

const failing: ResponseHook = {
  phase: 'session',
  beforeEnd: () => Promise.reject(new Error('the store is gone')),
};

describe('a failing hook', () => {
  const ways: Readonly<Record<string, ResponseHook>> = {
    'that rejects': failing,
    'that throws': {
      phase: 'session',
      beforeEnd() {
        throw new Error('the store is gone');
      },
    },
    'that rejects before the headers': {
      phase: 'session',
      beforeHeaders: () => Promise.reject(new Error('no')),
    },
    'that throws before the headers': {
      phase: 'session',
      beforeHeaders() {
        throw new Error('the store is gone');
      },
    },
  };
  it.each(Object.entries(ways))(
    'a hook %s turns the response into a 503, without the headers of the handler',
    async (_name, hook) => {
      const log: string[] = [];
      const port = await serve((_req, res) => {
        res.setHeader('X-Outer', 'kept');
        res.setHeader('Set-Cookie', ['outer=1']);
        addResponseHook(res, logging(log, 'lock'));
        addResponseHook(res, hook);
        res.setHeader('X-Outer', 'changed');
        res.appendHeader('Set-Cookie', 'inner=1');
        res.setHeader('X-Secret', 'of the handler');
        res.writeHead(201, 'Made', { ETag: '"1"' }).end('secret');
      });
      const answer = await ask(port);
      expect(answer.status).toBe(503);
      expect(answer.message).toBe('Service Unavailable');
      expect(answer.header('content-type')).toBe('application/problem+json; charset=utf-8');
      expect(answer.header('retry-after')).toBe('1');
      expect(answer.header('x-outer')).toBe('kept');
      expect(answer.header('set-cookie')).toBe('outer=1');
      expect(answer.text).not.toMatch(/secret|etag/i);
      expect(JSON.parse(answer.body)).toMatchObject({ status: 503, title: 'Service Unavailable' });
      expect(log).toContain('lock end');
    },
  );

  it('a failing hook replaces a body whose first bytes were written before the hooks had run', async () => {
    const port = await serve((_req, res) => {
      addResponseHook(res, {
        phase: 'session',
        beforeHeaders: () => setImmediate().then(() => Promise.reject(failing)),
      });
      res.write('secret');
      res.end('more');
    });
    const answer = await ask(port);
    expect(answer.status).toBe(503);
    expect(answer.isComplete).toBe(true);
    expect(answer.text).not.toContain('secret');
  });

  it('a failing hook does not change a response that has begun', async () => {
    const log: string[] = [];
    const port = await serve(async (_req, res) => {
      addResponseHook(res, failing);
      addResponseHook(res, logging(log, 'lock'));
      res.write('a');
      await roundTrip(port);
      res.end('b');
    });
    const answer = await ask(port);
    expect([answer.status, answer.body, answer.isComplete]).toEqual([200, 'ab', true]);
    expect(log).toEqual(['lock headers', 'lock late end']);
  });

  it('the callbacks of write() and end() are called when a hook fails', async () => {
    const called: string[] = [];
    const port = await serve((_req, res) => {
      addResponseHook(res, { phase: 'session', beforeHeaders: () => Promise.reject(new Error('gone')) });
      res.write('a', () => called.push('write'));
      res.write('b', () => {
        called.push('second');
        res.end(() => called.push('end'));
      });
    });
    expect((await ask(port)).status).toBe(503);
    expect(called).toEqual(['write', 'second', 'end']);
  });
});

describe('a response after end()', () => {
  const again: Handler = (_req, res) => {
    res.statusCode = 500;
    res.statusMessage = 'Changed';
    res.setHeader('X-A', 'changed');
    res.setHeader('X-B', 'added');
    res.appendHeader('X-List', '2');
    res.removeHeader('X-C');
    res.writeHead(500, { 'X-D': 'added' });
    res.flushHeaders();
    res.write('more');
    res.end('more');
  };

  it.each(['end', 'write'] as const)(
    'a handler cannot change its response while the hooks wait (response begun by %s)',
    async (way) => {
      const gate = new Gate();
      const port = await serve((req, res) => {
        addResponseHook(res, { phase: 'session', beforeHeaders: () => gate.promise });
        res.setHeader('X-A', 'a').setHeader('X-C', 'c').setHeader('X-List', ['1']);
        if (way === 'write') res.write('bo');
        res.end(way === 'write' ? 'dy' : 'body');
        again(req, res);
        gate.open();
      });
      const answer = await ask(port);
      expect([answer.status, answer.message, answer.body]).toEqual([200, 'OK', 'body']);
      expect(answer.headers.filter(([name]) => name.toLowerCase().startsWith('x-')).sort()).toEqual([
        ['X-A', 'a'],
        ['X-C', 'c'],
        ['X-List', '1'],
      ]);
    },
  );

  it('a first write that waits for the hooks is sent with the headers at the time of the write', async () => {
    const gate = new Gate();
    const port = await serve(async (_req, res) => {
      addResponseHook(res, { phase: 'session', beforeHeaders: () => gate.promise });
      res.setHeader('X-A', 'a');
      res.write('bo');
      res.setHeader('X-A', 'changed').setHeader('X-B', 'added');
      res.statusCode = 500;
      gate.open();
      await roundTrip(port);
      res.end('dy');
    });
    const answer = await ask(port);
    expect([answer.status, answer.header('x-a'), answer.header('x-b')]).toEqual([200, 'a', undefined]);
    expect(answer.body).toBe('body');
  });

  it.each([false, true])(
    'after end(), headersSent is true at once and writableEnded once the response has ended (hook waits: %s)',
    async (waits) => {
      const seen: boolean[] = [];
      const port = await serve((_req, res) => {
        addResponseHook(res, logging([], 'session', waits));
        seen.push(res.headersSent, res.writableEnded);
        res.end('body');
        seen.push(res.headersSent, res.writableEnded);
      });
      await ask(port);
      // An adapter that buffers reads the response once `writableEnded` is true, so the response must be complete then.
      expect(seen).toEqual([false, false, true, !waits]);
    },
  );

  it.each([false, true])(
    'a write after end() is ignored, and its callback receives an error (hook waits: %s)',
    async (waits) => {
      const errors: unknown[] = [];
      const port = await serve((_req, res) => {
        addResponseHook(res, logging([], 'session', waits));
        res.end('body');
        res.write('more', (error) => errors.push(error));
      });
      expect((await ask(port)).body).toBe('body');
      expect(errors).toEqual([expect.objectContaining({ code: 'ERR_STREAM_WRITE_AFTER_END' })]);
    },
  );
});
