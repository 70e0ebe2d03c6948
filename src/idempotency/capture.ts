import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError } from '../base/errors.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import { originalUrl } from '../http/middleware.ts';
import { DisconnectWatch } from '../http/response/disconnect-watch.ts';
import { addResponseHook, type ResponseHook } from '../http/response/guarded-response.ts';
import { type HandlerHeaders, watchHandlerHeaders } from '../http/response/handler-headers.ts';
import { whenUnserved } from '../http/response/unserved.ts';
import { type Answer, packAnswer } from './answer.ts';
import type { IdempotencySettings } from './options.ts';
import type { Run } from './run.ts';

export interface CaptureContext {
  readonly run: Run;
  readonly key: string;
  readonly settings: Pick<IdempotencySettings, 'maxBody' | 'store' | 'onDisconnect'>;
  readonly deadline: Deadline;
  readonly reporter: Reporter;
}

/** Cookies are for one moment: a repeat sends its own. The length is the body's. */
const LEFT_OUT: ReadonlySet<string> = new Set(['set-cookie', 'content-length']);

/** Listens to a response as its handler makes it, and records it before its last byte leaves. */
export function captureAnswer(req: IncomingMessage, res: ServerResponse, context: CaptureContext): void {
  const capture = new AnswerCapture(req, res, context);
  // What was the handler's is read before anybody else's hook waits.
  addResponseHook(res, capture);
  // After the guard's own listener was added.
  capture.watchClient();
  addResponseHook(res, {
    phase: 'idempotency',
    withholdsLastBytes: true,
    outlastsRefusal: true,
    beforeEnd: () => capture.record(),
    abandoned: () => context.run.leave(),
  });
  whenUnserved(res, () => capture.giveUp());
}

class AnswerCapture implements ResponseHook {
  readonly phase = 'capture';
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #context: CaptureContext;
  readonly #ownHeaders: () => HandlerHeaders;
  #head: Omit<Answer, 'body'> | undefined;
  #chunks: Buffer[] = [];
  #size = 0;
  #isUnserved = false;
  #departure: DisconnectWatch | undefined;
  #isCutShort = false;

  constructor(req: IncomingMessage, res: ServerResponse, context: CaptureContext) {
    this.#req = req;
    this.#res = res;
    this.#context = context;
    this.#ownHeaders = watchHandlerHeaders(res, (name) => LEFT_OUT.has(name));
  }

  watchClient(): void {
    this.#departure = new DisconnectWatch(this.#req, this.#res);
  }

  closedEarly(): void {
    this.#departure?.disconnected();
  }

  beforeEnd(): undefined {
    this.#isCutShort = this.#departure?.mayBeCutShort(this.#context.settings.onDisconnect) === true;
  }

  beforeHeaders(): undefined {
    this.#head = this.#readHead();
  }

  chunk(chunk: Buffer): void {
    this.#size += chunk.length;
    if (this.#size > this.#context.settings.maxBody) this.#chunks = [];
    else this.#chunks.push(chunk);
  }

  /** No handler has run, so the next request with the key does. What stood in between may have acted: it counts. */
  giveUp(): void {
    this.#isUnserved = true;
    const { run, deadline } = this.#context;
    void run.discard(deadline);
  }

  record(): Promise<void> {
    if (this.#isUnserved) return Promise.resolve();
    const { run, settings, deadline } = this.#context;
    const head = this.#head ?? this.#readHead();
    if (this.#isCutShort || !this.#isFinal(head.status)) return run.discard(deadline);
    if (this.#size > settings.maxBody) {
      this.#tellUnkept();
      return run.complete(undefined, deadline);
    }
    const body = Buffer.concat(this.#chunks, this.#size);
    return run.complete(packAnswer({ ...head, body }), deadline);
  }

  #readHead(): Omit<Answer, 'body'> {
    const { set: headers, removed } = this.#ownHeaders();
    return { status: this.#res.statusCode, headers, removed };
  }

  #isFinal(status: number): boolean {
    const { settings, reporter } = this.#context;
    try {
      return settings.store(status);
    } catch (error) {
      // It has run, and nobody has said that it may again.
      reporter.failure('idempotency', asError(error));
      return true;
    }
  }

  #tellUnkept(): void {
    const { key, settings, reporter } = this.#context;
    const { maxBody } = settings;
    reporter.warning(
      `kit.idempotency: an answer to a ${this.#req.method} request is larger than \`maxBody\` (${maxBody} bytes) and is not kept, so its repeats are refused; 'idempotency:unkept' tells of each`,
    );
    const url = originalUrl(this.#req);
    reporter.events.emit('idempotency:unkept', { key, url, bytes: this.#size });
  }
}
