import type { IncomingMessage, ServerResponse } from 'node:http';
import { DisconnectWatch } from '../../http/response/disconnect-watch.ts';
import {
  addResponseHook,
  type LateHeaders,
  type Replacement,
  type ResponseHook,
} from '../../http/response/guarded-response.ts';
import { type HandlerHeaders, watchHandlerHeaders } from '../../http/response/handler-headers.ts';
import type { Fill } from '../store/fill.ts';
import { type CachedResponse, entryToStore, type StorageUse } from './cached-response.ts';
import type { ClientResponse } from './client-response.ts';
import { CONDITIONAL_STATUSES } from './conditions.ts';
import { type RangePart, sendStreamedPart, streamedPart } from './range-response.ts';
import {
  type HandlerHead,
  isWholeBody,
  readHandlerHead,
  UNSTORED_FIELDS,
  withLateHeaders,
} from './storable.ts';
import { ERROR_STATUSES, type StorageDecision } from './storage-decision.ts';

/** How long followers wait for a handler after its client has disconnected. The handler may have stopped then. */
const RELEASE_AFTER_CLOSE_MS = 1_000;

/** The methods of a fill by which a captured response ends it. */
export type ResponseFill = Pick<
  Fill<CachedResponse>,
  'store' | 'endAsHitForMiss' | 'release' | 'abandon' | 'fallBackOn'
>;

export interface CaptureListener {
  stored(bytes: number, response: CachedResponse): void;
  /** `isWhole` is true for a 200 that was not skipped because of an error. */
  skipped(reason: string, isWhole: boolean): void;
  failed(error: unknown): void;
}

export interface CaptureContext {
  readonly decision: StorageDecision;
  readonly client: ClientResponse;
  readonly fill: ResponseFill;
  readonly listener: CaptureListener;
}

/** Records a handler's response while it is sent. Stores the complete response, or skips it. */
export function captureResponse(req: IncomingMessage, res: ServerResponse, context: CaptureContext): void {
  const capture = new Capture(res, context);
  addResponseHook(res, capture);
  // Called after `addResponseHook()`, which adds a listener of the guard: the watch takes only later listeners for the
  // handler's.
  capture.watchClient(req);
  if (context.decision.run.conditions.request.headers.range !== undefined)
    sendStreamedPart(res, () => capture.beginPart());
}

class Capture implements ResponseHook {
  readonly phase = 'capture';
  readonly #res: ServerResponse;
  readonly #context: CaptureContext;
  readonly #ownHeaders: () => HandlerHeaders;
  #chunks: Buffer[] = [];
  #size = 0;
  #head: HandlerHead | undefined;
  #skippedFor: string | undefined;
  /** Whether the client gets only a part while the handler streams the whole. The response is not stored then. */
  #sendsPart = false;
  /** Whether Node has the head. Until then, earlier middleware may change the head and thereby forbid storing. */
  #hasHeadLeft = false;
  /** The complete body of a response that may be stored, until the response is stored or skipped. */
  #body: Buffer | undefined;
  #disconnectWatch: DisconnectWatch | undefined;

  constructor(res: ServerResponse, context: CaptureContext) {
    this.#res = res;
    this.#context = context;
    this.#ownHeaders = watchHandlerHeaders(res, (name) => UNSTORED_FIELDS.has(name));
  }

  watchClient(req: IncomingMessage): void {
    this.#disconnectWatch = new DisconnectWatch(req, this.#res);
  }

  chunk(chunk: Buffer): void {
    this.#size += chunk.length;
    if (this.#isSkipped) return;
    if (this.#size > this.#context.decision.settings.maxBody) this.#skip('too-large');
    else this.#chunks.push(chunk);
  }

  /** The part to send if the whole is not stored; undefined to send the whole. Called before the head is sent. */
  beginPart(): RangePart | undefined {
    const part = streamedPart(this.#context.decision.run.conditions.request, this.#res);
    if (part === undefined) return undefined;
    this.#judgeHead();
    this.#sendsPart = this.#isSkipped;
    return this.#sendsPart ? part : undefined;
  }

  beforeHeaders(): undefined {
    const { client, decision } = this.#context;
    const head = this.#sendsPart && this.#head !== undefined ? this.#head : this.#judgeHead();
    const validated = decision.run.isRefresh ? undefined : decision.validated;
    if (validated === undefined) client.begin(head, this.#skippedFor, this.#sendsPart);
    else client.beginValidated(validated, this.#skippedFor);
    return undefined;
  }

  #judgeHead(): HandlerHead {
    const head = readHandlerHead(this.#res, this.#ownHeaders());
    this.#head = head;
    this.#skipIf(() => this.#context.decision.judgeHead(head));
    return head;
  }

  beforeEnd(hasBegun: boolean): undefined {
    const { client, decision } = this.#context;
    decision.handlerEnded();
    const isCutShort = this.#disconnectWatch?.mayBeCutShort(decision.settings.onDisconnect) === true;
    decision.run.conditions.restore();
    // Another middleware had begun the response before the cache could record it.
    if (this.#head === undefined) this.notSent();
    if (hasBegun) this.#skipIf(() => decision.countStreaming());
    const body = this.#isSkipped ? undefined : Buffer.concat(this.#chunks, this.#size);
    if (body !== undefined && (isCutShort || !isWholeBody(this.#head, body))) this.#dropIncomplete();
    else if (body !== undefined) {
      this.#body = body;
      if (!hasBegun) client.narrow(this.#head, body);
    }
    if (this.#hasHeadLeft) this.#finish();
    return undefined;
  }

  /** Changes that earlier middleware made to the head while it was sent also decide about storing. */
  headLeft(late: LateHeaders): void {
    this.#hasHeadLeft = true;
    this.#skipIf(() => {
      if (this.#head === undefined || this.#isSkipped) return undefined;
      const head = withLateHeaders(this.#head, late);
      if (head === this.#head) return undefined;
      this.#head = head;
      return this.#context.decision.judgeChangedHead(head);
    });
    this.#finish();
  }

  notSent(): void {
    this.#body = undefined;
    if (this.#isSkipped) return;
    this.#skippedFor = 'not-sent';
    this.#context.fill.abandon();
    this.#context.listener.skipped('not-sent', false);
  }

  instead(): Replacement | undefined {
    return this.#context.client.replacement;
  }

  closedEarly(): void {
    this.#disconnectWatch?.disconnected();
    setTimeout(() => this.#context.fill.release(), RELEASE_AFTER_CLOSE_MS).unref();
  }

  #dropIncomplete(): void {
    this.#skippedFor = 'incomplete';
    this.#context.listener.skipped('incomplete', false);
    // No hit-for-miss marker: the next response may be complete, so other requests wait for it.
    this.#context.fill.release();
  }

  /** Stores the response once it is complete and Node has its head. */
  #finish(): void {
    const body = this.#body;
    this.#body = undefined;
    if (body === undefined || this.#isSkipped) return;
    this.#skipIf(() => {
      const conclusion = this.#context.decision.conclude(body);
      if (conclusion === undefined || typeof conclusion === 'string') return conclusion;
      return this.#store(conclusion.response, conclusion.use);
    });
  }

  /** Stores the response. Returns a reason if it is a part that cannot be stored. */
  #store(response: CachedResponse, use: StorageUse): string | undefined {
    const { decision, fill, listener } = this.#context;
    const { settings, run } = decision;
    const target =
      response.part === undefined
        ? { response, use, fill }
        : run.part?.combine(response, use, settings.maxBody);
    if (target === undefined) return 'partial';
    const stored = target.response;
    // Not awaited: the Redis command is sent before the end of the response, so the next read by this process comes
    // after the write.
    void target.fill.store(entryToStore(stored, target.use, settings)).then((bytes) => {
      if (bytes !== undefined) listener.stored(bytes, stored);
    });
    return undefined;
  }

  /** Skips the response if `decide` returns a reason or throws an error. */
  #skipIf(decide: () => string | undefined): void {
    try {
      const reason = decide();
      if (reason !== undefined) this.#skip(reason);
    } catch (error) {
      this.#context.listener.failed(error);
      this.#skip('error');
    }
  }

  #skip(reason: string): void {
    if (this.#isSkipped) return;
    this.#skippedFor = reason;
    this.#chunks = [];
    this.#body = undefined;
    const { fill, decision, listener } = this.#context;
    const { fallback, isRefresh, conditions } = decision.run;
    const status = this.#head?.status ?? 0;
    const isError = ERROR_STATUSES.has(status);
    if (isError && fallback !== undefined) fill.fallBackOn(fallback);
    // No hit-for-miss marker: the next request must still find the stale response.
    else if (isError && isRefresh) fill.release();
    // A response to a condition or to Range does not show whether the whole response can be stored.
    else if (conditions.areLeft && CONDITIONAL_STATUSES.has(status)) fill.release();
    else fill.endAsHitForMiss();
    listener.skipped(reason, status === 200 && reason !== 'error');
  }

  get #isSkipped(): boolean {
    return this.#skippedFor !== undefined;
  }
}
