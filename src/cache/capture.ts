import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { beforeEnd, type LateHeaders, type Replacement, type ResponseHook } from '../http/before-end.ts';
import { DepartureWatch } from '../http/departure.ts';
import { asExpress, type Res } from '../http/middleware.ts';
import { type OwnHeaders, watchOwnHeaders } from '../http/own-headers.ts';
import type { CachedResponse } from './cached-response.ts';
import type { CaptureContext } from './capture-context.ts';
import { ClientResponse, ERRORS } from './client-response.ts';
import type { Lifetime } from './entry.ts';
import { lifetimeLater, lifetimeOf } from './freshness.ts';
import { HandlerIdentities } from './handler-identities.ts';
import { completeResponse, type MadeHead, madeHead, responseToFill, withLate } from './made.ts';
import type { CacheSettings } from './options.ts';
import { sendStreamedPart, streamedPart } from './part-stream.ts';
import type { Part } from './serve.ts';
import { checkTags, checkTtl } from './shared-options.ts';
import { OF_THIS_CACHE, reasonNotToStore } from './storable.ts';

/** With these a handler answers what was asked in part or under conditions. */
const OF_CONDITIONS = new Set([206, 304, 412, 416]);

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
    this.#client.begin(head, this.#skippedFor, this.#isPart);
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
    if (body !== undefined && (isCutShort || !this.#isWhole(body))) this.#dropIncomplete();
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
    const { settings, confirms, fallback, isRefresh, part } = this.#context;
    const head = part?.judgedHead(made, this.#context) ?? made;
    const { status, headers, directives } = head;
    if (status === 304 && confirms !== undefined) return;
    if (ERRORS.has(status) && (isRefresh || fallback !== undefined)) {
      // With a lifetime of its own it would take the place of what is sent instead.
      this.#skip('status');
      return;
    }
    const { mayVaryOn, statuses } = settings;
    const rules = { statuses, mayVaryOn, hasTtl: this.#ttl !== undefined };
    const reason = reasonNotToStore(status, headers, directives, rules) ?? this.#reasonOfHandler(head);
    if (reason !== undefined) {
      this.#skip(reason);
      return;
    }
    this.#lifetime = this.#lifetimeOf(head);
    if (this.#lifetime === undefined) this.#skip('no-lifetime');
    else if (Number(headers['content-length'] ?? 0) > settings.maxBody) this.#skip('too-large');
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
    return this.#context.controls.noStoreReason ?? this.#identities.reasonNotToStore(head);
  }

  #lifetimeOf({ status, headers, directives, madeAt }: MadeHead): Lifetime | undefined {
    const { settings } = this.#context;
    let ttl = this.#ttl;
    if (typeof ttl === 'function') {
      const given = ttl(asExpress(this.#req), this.#res as Res);
      if (given === false) return undefined;
      ttl = checkTtl('kit.cache: option `ttl`', given);
    }
    const times = { requestedAt: this.#requestedAt, respondedAt: madeAt };
    return lifetimeOf({ status, headers, directives, ...times }, { ...settings, ttl }, Math.random);
  }

  /** What streams is stored at its end, and was made when it began. */
  #countStreaming(): void {
    if (this.#head === undefined || this.#lifetime === undefined) return;
    const passedMs = Date.now() - this.#head.madeAt;
    this.#lifetime = lifetimeLater(this.#lifetime, passedMs, this.#ttl !== undefined);
    if (this.#lifetime.freshMs <= 0) this.#skip('no-lifetime');
  }

  /** A body that is shorter or longer than it claims was cut off, or is none of ours. */
  #isWhole(body: Buffer): boolean {
    const declared = this.#head?.headers['content-length'];
    return declared === undefined || this.#head?.status === 304 || Number(declared) === body.length;
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
    const head = this.#head;
    const { confirms } = this.#context;
    const part = this.#context.part?.isMade === true ? this.#context.part : undefined;
    const hasTtl = this.#ttl !== undefined;
    const request = { asked: this.#asked, confirms: confirms?.content, hasTtl, part };
    const made = head && completeResponse(head, body, request);
    if (confirms !== undefined && head?.status === 304) this.#lifetime = made && this.#lifetimeOf(made.head);
    const reason = head && this.#reasonOfHandler(made?.head ?? head);
    if (reason !== undefined) this.#skip(reason);
    else if (made === undefined || this.#lifetime === undefined)
      this.#skip(part === undefined ? 'validator' : 'partial');
    else this.#store(made.response, this.#lifetime);
  }

  #store(made: CachedResponse, lifetime: Lifetime): void {
    const { settings, fill, controls, nameOf, stored, part } = this.#context;
    const { tags } = settings;
    const own =
      typeof tags === 'function'
        ? checkTags('kit.cache: option `tags`: the tags', tags(asExpress(this.#req), this.#res as Res))
        : tags;
    const whole = { response: made, lifetime, tags: [...own, ...controls.tags].map(nameOf), fill };
    const storing = made.part === undefined ? whole : part?.combine(whole, settings.maxBody);
    if (storing === undefined) {
      this.#skip('partial');
      return;
    }
    // Not waited for: the command leaves before the response does, so this process's next read comes after it.
    void storing.fill.store(responseToFill(storing, settings)).then((bytes) => {
      if (bytes !== undefined) stored(bytes, storing.response);
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
    else fill.pass();
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
