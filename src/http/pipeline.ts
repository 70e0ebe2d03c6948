import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import { isThenable } from '../base/thenable.ts';
import type { Middleware, Next, Req, Res } from './middleware.ts';
import { checkMiddlewareCall } from './mount-check.ts';
import { type Pipelined, pipelinedOf } from './read-ahead.ts';
import { hasClientLeft } from './response/unserved.ts';
import { countTurnBatchWorks } from './turn-batch.ts';

/** A middleware of a pipeline: one of the kit, or another one. Its arguments are those of Express. */
export type PipelineStep<Request extends IncomingMessage = Req, Response extends ServerResponse = Res> = (
  req: Request,
  res: Response,
  next: Next,
) => unknown;

interface Step {
  readonly run: Middleware;
  readonly pipelined: Pipelined | undefined;
}

/**
 * A middleware that runs others in their order, as separate `app.use` calls would. While one of them waits, the first
 * reads of those after it are sent as well, so that all leave in one write to Redis.
 */
export function pipelineOf(middleware: readonly unknown[]): Middleware {
  if (middleware.length === 0) {
    throw new ConfigError(
      'kit.pipeline has no arguments; give it middleware: kit.pipeline(limiter, session)',
    );
  }
  const steps = middleware.map(stepOf);
  return function pipeline(req: IncomingMessage, res: ServerResponse, next: Next): void {
    checkMiddlewareCall('kit.pipeline', req, next);
    new PipelineRun(steps, req, res, next).run(0);
  };
}

function stepOf(middleware: unknown, index: number): Step {
  const where = `kit.pipeline: argument ${index + 1}`;
  if (typeof middleware !== 'function') {
    throw new ConfigError(`${where} is ${describe(middleware)}; it must be a middleware (req, res, next)`);
  }
  if (middleware.length > 3) {
    throw new ConfigError(
      `${where} takes ${middleware.length} arguments, as an error handler does; mount it with app.use after the pipeline`,
    );
  }
  const run = middleware as Middleware;
  return { run, pipelined: pipelinedOf(run) };
}

/** The way of one request through the steps of a pipeline. */
class PipelineRun {
  readonly #steps: readonly Step[];
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #next: Next;
  /** The index of the step whose turn it is. */
  #turn = 0;
  /** The index of the first step whose read was not sent. */
  #unread = 1;
  #isReading = false;
  /** Whether the app's `next` has thrown. Such an error is not of a step, and must not call `next` again. */
  #hasNextThrown = false;

  constructor(steps: readonly Step[], req: IncomingMessage, res: ServerResponse, next: Next) {
    this.#steps = steps;
    this.#req = req;
    this.#res = res;
    this.#next = next;
  }

  run(turn: number): void {
    this.#turn = turn;
    const step = this.#steps[turn];
    if (step === undefined) {
      this.#leave();
      return;
    }
    const waiting = countTurnBatchWorks();
    try {
      const result: unknown = step.run(this.#req, this.#res, (error) => this.#continue(turn, error));
      // As in Express 5, the error of a promise that a middleware returns is passed to `next`.
      if (isThenable(result)) {
        Promise.resolve(result).catch((error: unknown) =>
          this.#leave(error || new Error('Rejected promise')),
        );
      }
    } catch (error) {
      if (this.#hasNextThrown) throw error;
      this.#leave(error);
    }
    // A step that only waits for the end of the turn knows its outcome, which may be a refusal.
    if (this.#turn === turn && countTurnBatchWorks() === waiting) this.#readAhead();
  }

  #continue(turn: number, error: unknown): void {
    if (error) this.#leave(error);
    else this.run(turn + 1);
  }

  #leave(error?: unknown): void {
    this.#turn = this.#steps.length;
    try {
      this.#next(error);
    } catch (thrown) {
      this.#hasNextThrown = true;
      throw thrown;
    }
  }

  /**
   * Sends the reads of later steps once a step waits for more than promise callbacks, which run before the tick: a step
   * that refuses or continues by what this process knows does so in such callbacks.
   */
  #readAhead(): void {
    if (this.#isReading || this.#unread >= this.#steps.length) return;
    this.#isReading = true;
    queueMicrotask(() => process.nextTick(() => this.#sendReads()));
  }

  #sendReads(): void {
    this.#isReading = false;
    const [req, res] = [this.#req, this.#res];
    if (res.headersSent || hasClientLeft(req, res)) return;
    this.#unread = Math.max(this.#unread, this.#turn + 1);
    for (let step = this.#steps[this.#unread]; step !== undefined; step = this.#steps[this.#unread]) {
      if (this.#steps[this.#unread - 1]?.pipelined?.isOvertaken !== true) return;
      step.pipelined?.readAhead(req, res);
      this.#unread++;
    }
  }
}
