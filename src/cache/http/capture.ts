import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import {
  beforeEnd,
  type LateHeaders,
  type Replacement,
  type ResponseHook,
} from '../../http/response/before-end.ts';
import { DepartureWatch } from '../../http/response/departure.ts';
import { type OwnHeaders, watchOwnHeaders } from '../../http/response/own-headers.ts';
import type { Lifetime } from '../store/entry.ts';
import type { CachedResponse } from './cached-response.ts';
import type { CaptureContext } from './capture-context.ts';
import { ClientResponse, ERRORS } from './client-response.ts';
import { OF_CONDITIONS } from './conditions.ts';
import { lifetimeLater } from './freshness.ts';
import { HandlerIdentities } from './handler-identities.ts';
import {
  isAllOf,
  type MadeHead,
  madeHead,
  madeResponse,
  responseToFill,
  type ValidatedResponse,
  validatedResponse,
  withLate,
} from './made.ts';
import type { CacheSettings } from './options.ts';
import { sendStreamedPart, streamedPart } from './part-stream.ts';
import { partResponse } from './part-target.ts';
import { responseLifetime } from './response-lifetime.ts';
import { responseTags } from './response-tags.ts';
import type { Part } from './serve.ts';
import { hasEtag, OF_THIS_CACHE, reasonNotToStore } from './storable.ts';

/** How long the others wait for a handler whose client has gone and that may have stopped with it. */
const AFTER_CLOSE_MS = 1_000;

/** Listens to a response as the handler makes it, and stores or skips it when it is complete. */
export function captureResponse(req: IncomingMessage, res: ServerResponse, context: CaptureContext): void {
  const capture = new Capture(req, res, context);
  beforeEnd(res, capture);
  // After the guard's own listener was added.
  capture.watchClient();
  if (context.conditions.request.headers.range !== undefined)
    sendStreamedPart(res, () => capture.beginPart());
}

class Capture implements ResponseHook {
  readonly phase = 'capture';
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #context: CaptureContext;
  readonly #ownHeaders: () => OwnHeaders;
  readonly #client: ClientResponse;
  readonly #identities: HandlerIdentities;
  /** The fields of the request, of which reads are not watched. */
  readonly #asked: IncomingHttpHeaders;
  readonly #requestedAt = Date.now();
  #chunks: Buffer[] = [];
  #size = 0;
  #head: MadeHead | undefined;
  /** The lifetime that the app names, as it was when the head left. */
  #ttl: CacheSettings['ttl'];
  #lifetime: Lifetime | undefined;
  /** The stored response that the 304 of the handler has validated. */
  #validated: ValidatedResponse | undefined;
  #skippedFor: string | undefined;
  /** Whether the client gets a part of what the handler makes whole. */
  #isPart = false;
  /** Whether Node has the head: it may show until then that the response must not be stored. */
  #hasHeadLeft = false;
  #body: Buffer | undefined;
  #departure: DepartureWatch | undefined;

  constructor(req: IncomingMessage, res: ServerResponse, context: CaptureContext) {
    this.#req = req;
    this.#res = res;
    this.#context = context;
    this.#client = new ClientResponse(res, context);
    this.#ownHeaders = watchOwnHeaders(res, (name) => OF_THIS_CACHE.has(name));
    this.#asked = req.headers;
    this.#identities = new HandlerIdentities(req, res, context.settings);
  }

  watchClient(): void {
    this.#departure = new DepartureWatch(this.#req, this.#res);
  }

  chunk(chunk: Buffer): void {
    this.#size += chunk.length;
    if (this.#isSkipped) return;
    if (this.#size > this.#context.settings.maxBody) this.#skip('too-large');
    else this.#chunks.push(chunk);
  }

  /** The part that is sent of a whole that will not be stored; asked before its head leaves. */
  beginPart(): Part | undefined {
    const part = streamedPart(this.#context.conditions.request, this.#res);
    if (part === undefined) return undefined;
    this.#judgeHead();
    this.#isPart = this.#isSkipped;
    return this.#isPart ? part : undefined;
  }

  beforeHeaders(): undefined {
    const head = this.#isPart && this.#head !== undefined ? this.#head : this.#judgeHead();
    const validated = this.#context.isRefresh ? undefined : this.#validated?.response;
    if (validated === undefined) this.#client.begin(head, this.#skippedFor, this.#isPart);
    else this.#client.beginValidated(validated, this.#skippedFor);
    return undefined;
  }

  #judgeHead(): MadeHead {
    const head = madeHead(this.#res, this.#ownHeaders());
    this.#head = head;
    this.#ttl = this.#context.controls.ttlMs ?? this.#context.settings.ttl;
    try {
      this.#judge(head);
    } catch (error) {
      this.#failed(error);
    }
    return head;
  }

  beforeEnd(hasBegun: boolean): undefined {
    const { conditions, settings } = this.#context;
    this.#identities.stop();
    const isCutShort = this.#departure?.mayBeCutShort(settings.onDisconnect) === true;
    conditions.restore();
    if (hasBegun) this.#countStreaming();
    const body = this.#isSkipped ? undefined : Buffer.concat(this.#chunks, this.#size);
    if (body !== undefined && (isCutShort || !isAllOf(this.#head, body))) this.#dropIncomplete();
    else if (body !== undefined) {
      this.#body = body;
      if (!hasBegun) this.#client.narrow(this.#head, body);
    }
    if (this.#hasHeadLeft) this.#finish();
    return undefined;
  }

  headLeft(late: LateHeaders): void {
    this.#hasHeadLeft = true;
    try {
      this.#judgeLate(late);
    } catch (error) {
      this.#failed(error);
    }
    this.#finish();
  }

  notSent(): void {
    this.#body = undefined;
    if (this.#isSkipped) return;
    this.#skippedFor = 'not-sent';
    this.#context.fill.abandon();
    this.#context.skipped('not-sent');
  }

  instead(): Replacement | undefined {
    return this.#client.replacement;
  }

  closedEarly(): void {
    this.#departure?.left();
    setTimeout(() => this.#context.fill.release(), AFTER_CLOSE_MS).unref();
  }

  #judge(made: MadeHead): void {
    const { settings, validation, fallback, isRefresh, part } = this.#context;
    const head = part?.judgedHead(made) ?? made;
    const { status, headers, directives, own } = head;
    if (status === 304 && validation !== undefined) {
      this.#judgeValidated(validatedResponse(head, validation.entry.content, this.#ttl !== undefined));
      return;
    }
    if (ERRORS.has(status) && (isRefresh || fallback !== undefined)) {
      // With a lifetime of its own it would take the place of what is sent instead.
      this.#skip('status');
      return;
    }
    // A part is not validated.
    const isValidatable = head === made && hasEtag(status, own);
    const rules = { ...settings, hasTtl: this.#ttl !== undefined, isValidatable };
    const reason = reasonNotToStore(status, headers, directives, rules) ?? this.#reasonOfHandler(head);
    this.#lifetime = reason === undefined ? this.#lifetimeOf(head) : undefined;
    if (reason !== undefined) this.#skip(reason);
    else if (this.#lifetime === undefined) this.#skip('no-lifetime');
    else if (Number(headers['content-length'] ?? 0) > settings.maxBody) this.#skip('too-large');
  }

  #judgeValidated(validated: ValidatedResponse): void {
    this.#validated = validated;
    const { head, isStorable } = validated;
    this.#lifetime = isStorable ? this.#lifetimeOf(head) : undefined;
    const reason = this.#reasonOfHandler(head) ?? (this.#lifetime === undefined ? 'validator' : undefined);
    if (reason !== undefined) this.#skip(reason);
  }

  /** What middleware above the cache says while the head leaves counts as what it said before. */
  #judgeLate(late: LateHeaders): void {
    if (this.#head === undefined || this.#isSkipped) return;
    const head = withLate(this.#head, late);
    if (head === this.#head) return;
    this.#head = head;
    this.#judge(head);
  }

  /** What the handler said, and what it did, that forbids to store its response. */
  #reasonOfHandler(head: MadeHead): string | undefined {
    const { controls } = this.#context;
    const own = controls.noStoreReason ?? this.#identities.reasonNotToStore(head);
    return own ?? this.#context.reasonNotToStore?.(head);
  }

  #lifetimeOf(head: MadeHead): Lifetime | undefined {
    const app = { req: this.#req, res: this.#res, settings: this.#context.settings, ttl: this.#ttl };
    return responseLifetime(head, { ...app, requestedAt: this.#requestedAt });
  }

  /** What streams is stored at its end, and was made when it began. */
  #countStreaming(): void {
    if (this.#head === undefined || this.#lifetime === undefined) return;
    const passedMs = Date.now() - this.#head.madeAt;
    this.#lifetime = lifetimeLater(this.#lifetime, passedMs, this.#ttl !== undefined);
    if (this.#lifetime === undefined) this.#skip('no-lifetime');
  }

  /** The next request runs the handler again. */
  #dropIncomplete(): void {
    const { fill, skipped } = this.#context;
    this.#skippedFor = 'incomplete';
    skipped('incomplete');
    fill.release();
  }

  /** The whole response is known, and its head has left. */
  #finish(): void {
    const body = this.#body;
    this.#body = undefined;
    if (body === undefined || this.#isSkipped) return;
    try {
      this.#storeOrSkip(body);
    } catch (error) {
      // Not to be stored is the worst that may happen to a response here.
      this.#failed(error);
    }
  }

  #storeOrSkip(body: Buffer): void {
    const { head = this.#head, response } = this.#validated ?? {};
    if (head === undefined || this.#lifetime === undefined) return;
    const reason = this.#reasonOfHandler(head);
    const makes = this.#context.part?.isMade === true ? partResponse : madeResponse;
    const made = response ?? makes(head, body, this.#asked, this.#ttl !== undefined);
    if (reason !== undefined) this.#skip(reason);
    else if (made === undefined) this.#skip('partial');
    else this.#store(made, this.#lifetime, head);
  }

  #store(made: CachedResponse, lifetime: Lifetime, { headers }: MadeHead): void {
    const { settings, controls, namesOf, stored, part } = this.#context;
    const tags = [...responseTags(settings, this.#req, this.#res), ...controls.tags];
    const validation = this.#validated && this.#context.validation;
    const of = { lifetime, names: namesOf(tags, headers), validation };
    const whole = { response: made, of, fill: this.#context.fill };
    const storing = made.part === undefined ? whole : part?.combine(made, of, settings.maxBody);
    if (storing === undefined) {
      this.#skip('partial');
      return;
    }
    const { response, fill } = storing;
    // Not waited for: the command leaves before the response does, so this process's next read comes after it.
    void fill.store(responseToFill(response, storing.of, settings)).then((bytes) => {
      if (bytes !== undefined) stored(bytes, response);
    });
  }

  #skip(reason: string): void {
    if (this.#isSkipped) return;
    this.#skippedFor = reason;
    this.#chunks = [];
    this.#body = undefined;
    const { fill, fallback, isRefresh, conditions, skipped, wholeSkipped } = this.#context;
    const status = this.#head?.status ?? 0;
    const isError = ERRORS.has(status);
    if (status === 200 && reason !== 'error') wholeSkipped();
    if (isError && fallback !== undefined) fill.fallBackOn(fallback);
    // What is stale is still there for who comes next, and must be looked for.
    else if (isError && isRefresh) fill.release();
    // It says nothing about the whole.
    else if (conditions.areLeft && OF_CONDITIONS.has(status)) fill.release();
    else fill.endAsHitForMiss();
    skipped(reason);
  }

  get #isSkipped(): boolean {
    return this.#skippedFor !== undefined;
  }

  #failed(error: unknown): void {
    this.#context.failed(error);
    this.#skip('error');
  }
}
