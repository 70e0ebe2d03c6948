import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { ResponseHook } from '../http/before-end.ts';
import { spelledNames } from '../http/response-head.ts';
import type { CacheEntry } from './entry.ts';
import { entryHeaders, entryVary, headerTexts, reasonNotToStore } from './storable.ts';

/** Tells whether a handler looked at the session; the session room gives it, `kit.ts` passes it in. */
export type WatchSession = (
  req: IncomingMessage,
  res: ServerResponse,
) => { readonly wasRead: boolean; stop(): void };

export interface CaptureContext {
  readonly maxBody: number;
  readonly watchSession: WatchSession;
  store(entry: CacheEntry): void;
  skip(reason: string): void;
  failed(error: unknown): void;
}

/** Listens to a response as the handler makes it, and stores or skips it when it is complete. */
export function captureResponse(
  req: IncomingMessage,
  res: ServerResponse,
  context: CaptureContext,
): ResponseHook {
  const outer = headerTexts(res.getHeaders());
  const session = context.watchSession(req, res);
  let chunks: Buffer[] = [];
  let size = 0;
  let reason: string | undefined;
  let head: { status: number; headers: OutgoingHttpHeaders; spelled: readonly string[] } | undefined;

  function finish(): void {
    session.stop();
    const declared = head?.headers['content-length'];
    if (session.wasRead) reason ??= 'session-read';
    // A body that is shorter or longer than it claims was cut off, or is none of ours.
    if (declared !== undefined && Number(declared) !== size) reason ??= 'incomplete';
    if (reason !== undefined || head === undefined) {
      context.skip(reason ?? 'incomplete');
      return;
    }
    context.store({
      status: head.status,
      headers: entryHeaders(head.headers, outer, head.spelled),
      vary: entryVary(head.headers, req.headers),
      body: Buffer.concat(chunks, size),
    });
  }

  return {
    phase: 'capture',
    chunk(chunk) {
      size += chunk.length;
      if (size > context.maxBody) reason ??= 'too-large';
      if (reason === undefined) chunks.push(chunk);
      else chunks = [];
    },
    beforeHeaders() {
      head = { status: res.statusCode, headers: res.getHeaders(), spelled: spelledNames(res) };
      reason ??= reasonNotToStore(head.status, head.headers);
      return undefined;
    },
    beforeEnd() {
      try {
        finish();
      } catch (error) {
        // Not to be stored is the worst that may happen to a response here.
        context.failed(error);
      }
      return undefined;
    },
    closedEarly: () => session.stop(),
  };
}
