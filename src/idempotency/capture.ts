import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError } from '../base/errors.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Budget } from '../engine/budget.ts';
import { beforeEnd } from '../http/before-end.ts';
import { whenAbandoned } from '../http/closing.ts';
import { originalUrl } from '../http/middleware.ts';
import { type Header, headerTexts, ownHeaders } from '../http/own-headers.ts';
import { spelledNames } from '../http/response-head.ts';
import { type Answer, packAnswer } from './answer.ts';
import type { IdempotencySettings } from './options.ts';
import type { Run } from './run.ts';

export interface CaptureContext {
  readonly run: Run;
  readonly key: string;
  readonly settings: Pick<IdempotencySettings, 'maxBody' | 'store'>;
  readonly budget: Budget;
  readonly reporter: Reporter;
}

/** Cookies are for one moment: a repeat sends its own. The length is the body's. */
const LEFT_OUT: ReadonlySet<string> = new Set(['set-cookie', 'content-length']);

/** Listens to a response as its handler makes it, and records it before its last byte leaves. */
export function captureAnswer(req: IncomingMessage, res: ServerResponse, context: CaptureContext): void {
  const { run, settings, budget, reporter } = context;
  const { maxBody, store } = settings;
  const outer = headerTexts(res.getHeaders());
  let head: Pick<Answer, 'status' | 'headers'> | undefined;
  let chunks: Buffer[] = [];
  let size = 0;

  function readHead() {
    const headers: Header[] = ownHeaders(res.getHeaders(), spelledNames(res), outer, (name) =>
      LEFT_OUT.has(name),
    );
    return { status: res.statusCode, headers };
  }

  function isFinal(status: number): boolean {
    try {
      return store(status);
    } catch (error) {
      // It has run, and nobody has said that it may again.
      reporter.failure('idempotency', asError(error));
      return true;
    }
  }

  function record(): Promise<void> {
    const { status, headers } = head ?? readHead();
    if (!isFinal(status)) return run.discard(budget);
    if (size <= maxBody)
      return run.complete(packAnswer({ status, headers, body: Buffer.concat(chunks, size) }), budget);
    tellUnkept(req, size, context);
    return run.complete(undefined, budget);
  }

  // What was the handler's is read before anybody else's hook waits.
  beforeEnd(res, {
    phase: 'capture',
    beforeHeaders() {
      head = readHead();
      return undefined;
    },
    chunk(chunk) {
      size += chunk.length;
      if (size > maxBody) chunks = [];
      else chunks.push(chunk);
    },
  });
  beforeEnd(res, { phase: 'idempotency', withholdsLastBytes: true, beforeEnd: record });
  whenAbandoned(res, () => run.leave());
}

function tellUnkept(req: IncomingMessage, bytes: number, { key, settings, reporter }: CaptureContext): void {
  reporter.warning(
    `kit.idempotency: an answer to a ${req.method} request is larger than \`maxBody\` (${settings.maxBody} bytes) and is not kept, so its repeats are refused; 'idempotency:unkept' tells of each`,
  );
  reporter.events.emit('idempotency:unkept', { key, url: originalUrl(req), bytes });
}
