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

/** How long followers wait for a handler after its client has disconnected, since it may have stopped then. */
const RELEASE_AFTER_CLOSE_MS = 1_000;

/** The fill that a captured response ends. */
export type ResponseFill = Pick<
  Fill<CachedResponse>,
  'store' | 'endAsHitForMiss' | 'release' | 'abandon' | 'fallBackOn'
>;

export interface CaptureListener {
  stored(bytes: number, response: CachedResponse): void;
  /** `isWhole`: the response is a complete 200. */
  skipped(reason: string, isWhole: boolean): void;
  failed(error: unknown): void;
}

export interface CaptureParts {
  readonly decision: StorageDecision;
  readonly client: ClientResponse;
  readonly fill: ResponseFill;
  readonly listener: CaptureListener;
}

/** Records a handler's response, and stores or skips it when it is complete. */
export function captureResponse(req: IncomingMessage, res: ServerResponse, parts: CaptureParts): void {
  const capture = new Capture(res, parts);
  addResponseHook(res, capture);
  // After `beforeEnd`, so that the guard's own listener is called first.
  capture.watchClient(req);
  if (parts.decision.run.conditions.request.headers.range !== undefined)
    sendStreamedPart(res, () => capture.beginPart());
}

class Capture implements ResponseHook {
  readonly phase = 'capture';
  readonly #res: ServerResponse;
  readonly #parts: CaptureParts;
  readonly #ownHeaders: () => HandlerHeaders;
  #chunks: Buffer[] = [];
  #size = 0;
  #head: HandlerHead | undefined;
  #skippedFor: string | undefined;
  /** Whether the client gets a part of the response while it streams. */
  #sendsPart = false;
  /** Whether Node has the head: until then middleware may show that the response must not be stored. */
  #hasHeadLeft = false;
  /** The complete body of a response that may be stored. */
  #body: Buffer | undefined;
  #disconnectWatch: DisconnectWatch | undefined;

  constructor(res: ServerResponse, parts: CaptureParts) {
    this.#res = res;
    this.#parts = parts;
    this.#ownHeaders = watchHandlerHeaders(res, (name) => UNSTORED_FIELDS.has(name));
  }

  watchClient(req: IncomingMessage): void {
    this.#disconnectWatch = new DisconnectWatch(req, this.#res);
  }

  chunk(chunk: Buffer): void {
    this.#size += chunk.length;
    if (this.#isSkipped) return;
    if (this.#size > this.#parts.decision.settings.maxBody) this.#skip('too-large');
    else this.#chunks.push(chunk);
  }

  /** The part to send of a whole response that is not stored. Called before its head is sent. */
  beginPart(): RangePart | undefined {
    const part = streamedPart(this.#parts.decision.run.conditions.request, this.#res);
    if (part === undefined) return undefined;
    this.#judgeHead();
    this.#sendsPart = this.#isSkipped;
    return this.#sendsPart ? part : undefined;
  }

  beforeHeaders(): undefined {
    const { client, decision } = this.#parts;
    const head = this.#sendsPart && this.#head !== undefined ? this.#head : this.#judgeHead();
    const validated = decision.run.isRefresh ? undefined : decision.validated;
    if (validated === undefined) client.begin(head, this.#skippedFor, this.#sendsPart);
    else client.beginValidated(validated, this.#skippedFor);
    return undefined;
  }

  #judgeHead(): HandlerHead {
    const head = readHandlerHead(this.#res, this.#ownHeaders());
    this.#head = head;
    this.#skipIf(() => this.#parts.decision.judgeHead(head));
    return head;
  }

  beforeEnd(hasBegun: boolean): undefined {
    const { client, decision } = this.#parts;
    decision.handlerEnded();
    const isCutShort = this.#disconnectWatch?.mayBeCutShort(decision.settings.onDisconnect) === true;
    decision.run.conditions.restore();
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

  /** The changes of middleware above the cache count like earlier headers. */
  headLeft(late: LateHeaders): void {
    this.#hasHeadLeft = true;
    this.#skipIf(() => {
      if (this.#head === undefined || this.#isSkipped) return undefined;
      const head = withLateHeaders(this.#head, late);
      if (head === this.#head) return undefined;
      this.#head = head;
      return this.#parts.decision.judgeChangedHead(head);
    });
    this.#finish();
  }

  notSent(): void {
    this.#body = undefined;
    if (this.#isSkipped) return;
    this.#skippedFor = 'not-sent';
    this.#parts.fill.abandon();
    this.#parts.listener.skipped('not-sent', false);
  }

  instead(): Replacement | undefined {
    return this.#parts.client.replacement;
  }

  closedEarly(): void {
    this.#disconnectWatch?.disconnected();
    setTimeout(() => this.#parts.fill.release(), RELEASE_AFTER_CLOSE_MS).unref();
  }

  #dropIncomplete(): void {
    this.#skippedFor = 'incomplete';
    this.#parts.listener.skipped('incomplete', false);
    // Without a hit-for-miss marker: the next request runs the handler again.
    this.#parts.fill.release();
  }

  /** The response is complete and its head has left. */
  #finish(): void {
    const body = this.#body;
    this.#body = undefined;
    if (body === undefined || this.#isSkipped) return;
    this.#skipIf(() => {
      const conclusion = this.#parts.decision.conclude(body);
      if (conclusion === undefined || typeof conclusion === 'string') return conclusion;
      return this.#store(conclusion.response, conclusion.use);
    });
  }

  /** Returns why the response is not stored after all. */
  #store(response: CachedResponse, use: StorageUse): string | undefined {
    const { decision, fill, listener } = this.#parts;
    const { settings, run } = decision;
    const target =
      response.part === undefined
        ? { response, use, fill }
        : run.part?.combine(response, use, settings.maxBody);
    if (target === undefined) return 'partial';
    const stored = target.response;
    // Not awaited: the command is sent before the response, so the next read of this process comes after it.
    void target.fill.store(entryToStore(stored, target.use, settings)).then((bytes) => {
      if (bytes !== undefined) listener.stored(bytes, stored);
    });
    return undefined;
  }

  /** Skips the response for the reason that the decision returns, or for the error that it throws. */
  #skipIf(decide: () => string | undefined): void {
    try {
      const reason = decide();
      if (reason !== undefined) this.#skip(reason);
    } catch (error) {
      this.#parts.listener.failed(error);
      this.#skip('error');
    }
  }

  #skip(reason: string): void {
    if (this.#isSkipped) return;
    this.#skippedFor = reason;
    this.#chunks = [];
    this.#body = undefined;
    const { fill, decision, listener } = this.#parts;
    const { fallback, isRefresh, conditions } = decision.run;
    const status = this.#head?.status ?? 0;
    const isError = ERROR_STATUSES.has(status);
    if (isError && fallback !== undefined) fill.fallBackOn(fallback);
    // Without a hit-for-miss marker: the next request must still find the stale response.
    else if (isError && isRefresh) fill.release();
    // The response to a condition says nothing about the whole.
    else if (conditions.areLeft && CONDITIONAL_STATUSES.has(status)) fill.release();
    else fill.endAsHitForMiss();
    listener.skipped(reason, status === 200 && reason !== 'error');
  }

  get #isSkipped(): boolean {
    return this.#skippedFor !== undefined;
  }
}
