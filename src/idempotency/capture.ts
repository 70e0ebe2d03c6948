import type { ServerResponse } from 'node:http';
import type { Budget } from '../engine/budget.ts';
import { whenAbandoned } from '../http/abandoned.ts';
import { beforeEnd } from '../http/before-end.ts';
import { type Header, headerTexts, ownHeaders } from '../http/own-headers.ts';
import { spelledNames } from '../http/response-head.ts';
import { type Answer, packAnswer } from './answer.ts';
import type { Run } from './run.ts';

export interface CaptureContext {
  readonly run: Run;
  readonly maxBody: number;
  readonly store: (status: number) => boolean;
  readonly budget: Budget;
  /** Told once the answer is known to be too large, with its size. */
  tooLarge(bytes: number): void;
  failed(error: unknown): void;
}

/** Cookies are for one moment: a repeat sends its own. The length is the body's. */
const LEFT_OUT: ReadonlySet<string> = new Set(['set-cookie', 'content-length']);

/** Listens to a response as its handler makes it, and records it before its last byte leaves. */
export function captureAnswer(res: ServerResponse, context: CaptureContext): void {
  const { run, maxBody, store, budget, tooLarge, failed } = context;
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
      failed(error);
      return true;
    }
  }

  function record(): Promise<void> {
    const { status, headers } = head ?? readHead();
    if (!isFinal(status)) return run.discard(budget);
    if (size <= maxBody)
      return run.complete(packAnswer({ status, headers, body: Buffer.concat(chunks, size) }), budget);
    tooLarge(size);
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
