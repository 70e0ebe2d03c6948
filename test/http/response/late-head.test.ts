import type { ServerResponse } from 'node:http';
import onHeaders from 'on-headers';
import { describe, expect, it } from 'vitest';
import {
  addResponseHook,
  type LateHeaders,
  writeFlatHead,
} from '../../../src/http/response/guarded-response.ts';
import { onHeaders102 } from '../../support/older-releases.ts';
import { ask, type Handler, serve } from '../exchange.ts';

const VERSIONS = [
  ['on-headers 1.1.0', onHeaders],
  ['on-headers 1.0.2', onHeaders102],
] as const;

type WriteHead = (status: number, ...rest: unknown[]) => ServerResponse;

/** Replaces `writeHead` of a response with a wrapper, as other middleware does. */
function wrap(
  res: ServerResponse,
  wrapper: (next: WriteHead, status: number, rest: unknown[]) => unknown,
): void {
  const next = res.writeHead.bind(res) as WriteHead;
  Object.assign(res, { writeHead: (status: number, ...rest: unknown[]) => wrapper(next, status, rest) });
}

/** Ways in which a wrapper may pass headers to `writeHead`. */
const FORMS: Readonly<Record<string, unknown>> = {
  'an object': { 'X-Late': 'yes', 'Set-Cookie': ['a=1', 'b=2'] },
  'a flat list': ['X-Late', 'yes', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2'],
  pairs: [
    ['X-Late', 'yes'],
    ['Set-Cookie', ['a=1', 'b=2']],
  ],
};

/** Ways in which a handler may send a response. */
const SENDERS: Readonly<Record<string, (res: ServerResponse) => void>> = {
  'end()': (res) => void res.end('body'),
  'end() without a body': (res) => void res.end(),
  'writeHead() and end()': (res) => void res.writeHead(200, { 'X-Own': '1' }).end('body'),
  'write() and end()': (res) => {
    res.write('bo');
    res.end('dy');
  },
  'flushHeaders() and end()': (res) => {
    res.flushHeaders();
    setImmediate(() => res.end('body'));
  },
  'write() with a length and end()': (res) => {
    res.setHeader('Content-Length', 4);
    res.write('body');
    setImmediate(() => res.end());
  },
};

const HOOKS = {
  'that does not wait': () => undefined,
  'that waits': () => new Promise<void>((resolve) => setImmediate(resolve)),
};

describe.each(Object.entries(SENDERS))('the head of a response sent with %s', (_sender, send) => {
  describe.each(Object.entries(HOOKS))('with a hook %s', (_hook, wait) => {
    /** Serves with a hook that records the headers at `beforeHeaders` and the late changes. */
    async function exchange(handler: (res: ServerResponse, guard: () => void) => void, withholds = false) {
      const seen: Record<string, unknown>[] = [];
      const late: LateHeaders[] = [];
      const port = await serve((_req, res) => {
        handler(res, () =>
          addResponseHook(res, {
            phase: 'capture',
            withholdsLastBytes: withholds,
            beforeHeaders() {
              seen.push({ ...res.getHeaders() });
              return wait();
            },
            beforeEnd: wait,
            headLeft: (changes) => void late.push(changes),
          }),
        );
        send(res);
      });
      return { answer: await ask(port), seen, late };
    }

    describe.each(VERSIONS)('with %s', (_version, listen) => {
      it.each([false, true])(
        'a hook receives the headers that a listener below the kit sets, and the listener runs once (hook withholds: %s)',
        async (withholds) => {
          let calls = 0;
          const { answer, seen, late } = await exchange((res, guard) => {
            guard();
            listen(res, () => {
              calls++;
              res.setHeader('X-Late', 'yes');
            });
          }, withholds);
          expect([answer.status, answer.header('x-late'), calls]).toEqual([200, 'yes', 1]);
          expect(seen.map((headers) => headers['x-late'])).toEqual(['yes']);
          expect(late.map((changes) => [...changes])).toEqual([[]]);
        },
      );

      it('a hook receives the headers that a listener above the kit sets, before the first byte is sent', async () => {
        const { answer, seen, late } = await exchange((res, guard) => {
          listen(res, () => {
            res.setHeader('X-Late', 'yes');
            res.removeHeader('X-Early');
          });
          res.setHeader('X-Early', 'yes');
          guard();
        });
        expect([answer.header('x-late'), answer.header('x-early')]).toEqual(['yes', undefined]);
        expect(seen.map((headers) => headers['x-late'])).toEqual([undefined]);
        expect(late.map((changes) => Object.fromEntries(changes))).toEqual([
          { 'x-late': 'yes', 'x-early': undefined },
        ]);
      });
    });

    it.each(Object.entries(FORMS))(
      'a hook receives the headers that a wrapper below the kit passes to writeHead as %s',
      async (_form, headers) => {
        let calls = 0;
        const { answer, seen } = await exchange((res, guard) => {
          guard();
          wrap(res, (next, status) => {
            calls++;
            return next(status, headers);
          });
        });
        expect([answer.header('x-late'), answer.header('set-cookie'), calls]).toEqual(['yes', 'a=1, b=2', 1]);
        expect(seen).toEqual([expect.objectContaining({ 'x-late': 'yes', 'set-cookie': ['a=1', 'b=2'] })]);
      },
    );

    it.each(Object.entries(FORMS).slice(0, 2))(
      'a hook receives the headers that a wrapper above the kit passes to writeHead as %s',
      async (_form, headers) => {
        let calls = 0;
        const { answer, late } = await exchange((res, guard) => {
          wrap(res, (next, status) => {
            calls++;
            return next(status, headers);
          });
          guard();
        });
        expect([answer.header('x-late'), calls]).toEqual(['yes', 1]);
        expect(answer.header('set-cookie')).toContain('b=2');
        expect(late.map((changes) => [...changes.keys()])).toEqual([['x-late', 'set-cookie']]);
      },
    );

    it('each wrapper below and above the guard runs once, the last installed first', async () => {
      const log: string[] = [];
      const noting = (res: ServerResponse, name: string) =>
        wrap(res, (next, status, rest) => {
          log.push(name);
          return next(status, ...rest);
        });
      const { answer } = await exchange((res, guard) => {
        noting(res, 'above');
        guard();
        noting(res, 'first below');
        noting(res, 'second below');
      });
      expect(answer.status).toBe(200);
      expect(log).toEqual(['second below', 'first below', 'above']);
    });

    it('an error that a listener below the kit throws reaches the handler', async () => {
      const errors: unknown[] = [];
      const port = await serve((_req, res) => {
        addResponseHook(res, { phase: 'capture', beforeHeaders: wait });
        onHeaders(res, () => {
          throw new Error('on purpose');
        });
        try {
          send(res);
        } catch (error) {
          errors.push(error);
          res.statusCode = 500;
          res.removeHeader('Content-Length');
          res.end('sorry');
        }
      });
      const answer = await ask(port);
      expect(errors).toEqual([new Error('on purpose')]);
      expect([answer.status, answer.body]).toEqual([500, 'sorry']);
    });
  });

  it('a 503 that replaces a response has the headers of listeners above, and none of listeners below', async () => {
    const hooks: string[] = [];
    let calls = 0;
    const port = await serve((_req, res) => {
      onHeaders(res, () => void res.setHeader('X-Above', 'yes'));
      addResponseHook(res, {
        phase: 'capture',
        headLeft: () => void hooks.push('left'),
        notSent: () => void hooks.push('not sent'),
      });
      addResponseHook(res, {
        phase: 'session',
        beforeHeaders: () => Promise.reject(new Error('on purpose')),
      });
      onHeaders(res, () => {
        calls++;
        res.setHeader('X-Below', 'yes');
      });
      send(res);
    });
    const answer = await ask(port);
    expect([answer.status, answer.header('x-above'), answer.header('x-below')]).toEqual([
      503,
      'yes',
      undefined,
    ]);
    expect(answer.isComplete).toBe(true);
    expect([calls, hooks]).toEqual([1, ['not sent']]);
  });
});

describe('a flat list of headers', () => {
  const send: Handler = (_req, res) => {
    writeFlatHead(res, 201, ['X-One', '1', 'Set-Cookie', ['a=1', 'b=2']]);
    res.end('body');
  };

  it.each<[string, (res: ServerResponse) => void]>([
    ['nothing', () => undefined],
    ['the guard', (res) => addResponseHook(res, { phase: 'session' })],
    ['on-headers 1.0.2', (res) => onHeaders102(res, () => undefined)],
    [
      'on-headers 1.0.2 below the guard',
      (res) => {
        addResponseHook(res, { phase: 'session' });
        onHeaders102(res, () => undefined);
      },
    ],
    [
      'on-headers 1.0.2 above the guard',
      (res) => {
        onHeaders102(res, () => undefined);
        addResponseHook(res, { phase: 'session' });
      },
    ],
    [
      'a wrapper that returns nothing',
      (res) => {
        const { writeHead } = res;
        Object.assign(res, { writeHead: (...args: unknown[]) => void Reflect.apply(writeHead, res, args) });
      },
    ],
  ])('a flat list is sent as headers through %s', async (_name, prepare) => {
    const port = await serve((req, res) => {
      res.setHeader('X-Zero', '0');
      res.setHeader('Set-Cookie', 'old=1');
      prepare(res);
      send(req, res);
    });
    const answer = await ask(port);
    expect(answer.status).toBe(201);
    expect(answer.headers.filter(([name]) => /^(x-|set-)|^.$/i.test(name))).toEqual(
      expect.arrayContaining([
        ['X-Zero', '0'],
        ['X-One', '1'],
        ['Set-Cookie', 'a=1'],
        ['Set-Cookie', 'b=2'],
      ]),
    );
    expect(answer.headers.filter(([name]) => /^(x-|set-)|^.$/i.test(name))).toHaveLength(4);
  });
});
