import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import type { Middleware, Next } from '../../src/http/middleware.ts';
import { pipelineOf } from '../../src/http/pipeline.ts';
import { withoutReadAhead, withReadAhead } from '../../src/http/read-ahead.ts';
import { ConfigError } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';
import { send, serve } from '../support/web.ts';
import { APPS, EXPRESS, onError } from './frameworks.ts';

/** A middleware that notes its turns and then continues, at once or once it is released. */
function step(name: string, notes: string[], released?: Promise<unknown>): Middleware {
  return (_req, _res, next) => {
    notes.push(name);
    if (released === undefined) next();
    else released.then(() => next());
  };
}

function reading(name: string, notes: string[], middleware: Middleware = step(name, notes)): Middleware {
  return withReadAhead(middleware, () => void notes.push(`read of ${name}`));
}

function answering(text: string): Middleware {
  return (_req, res) => void res.end(text);
}

/** Serves a middleware without a framework; an error that it passes on becomes the response. */
function plain(
  middleware: Middleware,
  handler: RequestListener = (_req, res) => void res.end('handler'),
): Promise<string> {
  return serve((req, res) =>
    middleware(req, res, (error) =>
      error === undefined ? handler(req, res) : void res.end(`error: ${String(error)}`),
    ),
  );
}

function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

describe('the order of a pipeline', () => {
  it.each(APPS)(
    'the middleware of a pipeline runs in its order on %s, and then the app continues',
    async (_name, makeApp) => {
      const notes: string[] = [];
      const app = makeApp();
      app.use(pipelineOf([step('a', notes), step('b', notes, Promise.resolve()), step('c', notes)]));
      app.use(answering('end'));
      expect((await send(await serve(app))).text).toBe('end');
      expect(notes).toEqual(['a', 'b', 'c']);
    },
  );

  it.each(APPS)('a pipeline ends with the middleware that responds on %s', async (_name, makeApp) => {
    const notes: string[] = [];
    const app = makeApp();
    app.use(pipelineOf([step('a', notes), answering('b'), step('c', notes)]));
    app.use(answering('end'));
    expect((await send(await serve(app))).text).toBe('b');
    expect(notes).toEqual(['a']);
  });

  const FAILURES: readonly (readonly [how: string, fail: (next: Next) => unknown])[] = [
    ['passes an error to next', (next) => next(new Error('failed'))],
    [
      'throws an error',
      () => {
        throw new Error('failed');
      },
    ],
    ['rejects with an error', () => Promise.reject(new Error('failed'))],
    [
      'rejects a promise that is no instance of Promise',
      () => runInNewContext('Promise').reject(new Error('failed')),
    ],
  ];
  for (const [how, fail] of FAILURES) {
    it.each(APPS)(
      `a pipeline ends on %s with the middleware that ${how}, whose error reaches the error handler once`,
      async (_name, makeApp) => {
        const notes: string[] = [];
        const app = makeApp();
        const failing = (_req: IncomingMessage, _res: ServerResponse, next: Next) => fail(next);
        app.use(pipelineOf([step('a', notes), failing, step('c', notes)]));
        app.use(step('after', notes));
        onError(app, (error, res) => {
          notes.push(error.message);
          res.end();
        });
        await send(await serve(app));
        expect(notes).toEqual(['a', 'failed']);
      },
    );
  }

  it.each(EXPRESS)("a pipeline leaves the route on %s by next('route')", async (_name, makeApp) => {
    const notes: string[] = [];
    const app = makeApp();
    const leaving: Middleware = (_req, _res, next) => next('route');
    app.get('/', pipelineOf([step('a', notes), leaving, step('c', notes)]), answering('first'));
    app.get('/', answering('second'));
    expect((await send(await serve(app))).text).toBe('second');
    expect(notes).toEqual(['a']);
  });

  it('the middleware of a pipeline does not receive the error of a handler that runs within next', async () => {
    const notes: string[] = [];
    const middleware = pipelineOf([step('a', notes), step('b', notes)]);
    const address = await serve((req, res) => {
      try {
        middleware(req, res, (error) => {
          notes.push(`next ${String(error)}`);
          throw new Error('of the handler');
        });
      } catch (error) {
        res.end(String(error));
      }
    });
    expect((await send(address)).text).toBe('Error: of the handler');
    expect(notes).toEqual(['a', 'b', 'next undefined']);
  });
});

describe('the reads of a pipeline', () => {
  it('the reads of a pipeline are sent while an earlier middleware waits', async () => {
    const notes: string[] = [];
    const { opened, open } = gate();
    const last = reading('c', notes);
    const middleware = pipelineOf([
      withoutReadAhead(step('a', notes, opened)),
      reading('b', notes),
      withReadAhead(last, () => {
        notes.push('read of c');
        setImmediate(open);
      }),
    ]);
    await send(await plain(middleware));
    expect(notes).toEqual(['a', 'read of b', 'read of c', 'b', 'c']);
  });

  it('no read is sent for a request that a middleware refuses within promise callbacks', async () => {
    const notes: string[] = [];
    const refusing: Middleware = async (_req, res) => {
      for (let callbacks = 0; callbacks < 20; callbacks++) await null;
      res.end('refused');
    };
    const middleware = pipelineOf([withoutReadAhead(refusing), reading('b', notes)]);
    expect((await send(await plain(middleware))).text).toBe('refused');
    await new Promise(setImmediate);
    expect(notes).toEqual([]);
  });

  it('no read is sent past a middleware that may wait for other requests', async () => {
    const notes: string[] = [];
    const { opened, open } = gate();
    const exclusive: Middleware = (req, res, next) => {
      step('lock', notes, opened)(req, res, next);
      // Long after the reads of the steps behind would have been sent.
      setImmediate(() => setImmediate(() => setImmediate(open)));
    };
    const middleware = pipelineOf([
      withoutReadAhead(step('a', notes, new Promise(setImmediate))),
      exclusive,
      reading('c', notes),
    ]);
    await send(await plain(middleware));
    expect(notes).toEqual(['a', 'lock', 'c']);
  });

  it('a read behind a middleware that takes its turn is sent once that middleware has continued', async () => {
    const notes: string[] = [];
    const { opened, open } = gate();
    const middleware = pipelineOf([
      step('own', notes, new Promise(setImmediate)),
      withoutReadAhead(step('limiter', notes, opened)),
      withReadAhead(step('c', notes), () => {
        notes.push('read of c');
        setImmediate(open);
      }),
    ]);
    await send(await plain(middleware));
    expect(notes).toEqual(['own', 'limiter', 'read of c', 'c']);
  });
});

describe('kit.pipeline', () => {
  const pass: Middleware = (_req, _res, next) => next();
  const kit = () => kitForTest({ url: 'memory:' });

  it.each([
    ['a number', 7, /kit\.pipeline: argument 2 is 7; it must be a middleware/],
    ['an array', [pass], /argument 2 is an array of 1/],
    [
      'an error handler',
      (_error: unknown, _req: unknown, _res: unknown, next: Next) => next(),
      /argument 2 takes 4 arguments.*app\.use after the pipeline/,
    ],
  ])('kit.pipeline throws a ConfigError that names the position of %s', (_what, wrong, message) => {
    const call = () => kit().pipeline(pass, wrong as Middleware);
    expect(call).toThrow(ConfigError);
    expect(call).toThrow(message);
  });

  it('kit.pipeline throws a ConfigError without arguments', () => {
    expect(() => kit().pipeline()).toThrow(ConfigError);
  });

  it('a pipeline throws at once if it is called without next', () => {
    expect(() => Reflect.apply(kit().pipeline(pass), undefined, [{}, {}])).toThrow(
      /kit\.pipeline is a middleware for/,
    );
  });
});
