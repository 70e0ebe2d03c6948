import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { beforeEnd, type Replacement, type ResponseHook } from '../http/before-end.ts';
import { isNotModified } from '../http/conditional.ts';
import { DepartureWatch } from '../http/departure.ts';
import { asExpress, type Res } from '../http/middleware.ts';
import { headerTexts } from '../http/own-headers.ts';
import type { CachedResponse } from './cached-response.ts';
import type { CaptureContext } from './capture-context.ts';
import type { Entry, Lifetime } from './entry.ts';
import { lifetimeLater, lifetimeOf } from './freshness.ts';
import { HandlerIdentities } from './handler-identities.ts';
import { confirmedResponse, type MadeHead, madeHead, madeResponse, responseToFill } from './made.ts';
import type { CacheSettings } from './options.ts';
import { sendStreamedPart, streamedPart } from './part-stream.ts';
import { cutOff, measured, narrowed, notModified, type Part, sendEntry, wantsPart } from './serve.ts';
import { checkTags, checkTtl } from './shared-options.ts';
import { addStatus, statusOf } from './status.ts';
import { reasonNotToStore } from './storable.ts';

/** A server error for which RFC 5861, section 4, allows what is stale. */
const ERRORS = new Set([500, 502, 503, 504]);

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
  readonly #outer: ReadonlyMap<string, string>;
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
  #isSkipped = false;
  #isIncomplete = false;
  /** Whether the client gets a part of what the handler makes whole. */
  #isPart = false;
  #replacement: Replacement | undefined;
  #departure: DepartureWatch | undefined;

  constructor(req: IncomingMessage, res: ServerResponse, context: CaptureContext) {
    this.#req = req;
    this.#res = res;
    this.#context = context;
    this.#outer = headerTexts(res.getHeaders());
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
    const { fallback, conditions } = this.#context;
    if (fallback !== undefined && ERRORS.has(head.status)) {
      this.#replacement = (res, reset) => this.#sendFallback(res, reset, fallback, head.status);
      return undefined;
    }
    this.#tellClient(head);
    if (head.status !== 200 || this.#isPart) return undefined;
    const length = Number(head.headers['content-length'] ?? Number.NaN);
    const whole = measured(head.headers, length);
    if (isNotModified(conditions.request, whole)) this.#replacement = notModified;
    // What streams is held back for the part of it, since it fits; of what is cut off there is none.
    else if (!this.#isSkipped && length >= 0 && wantsPart(conditions.request, whole))
      this.#replacement = cutOff;
    return undefined;
  }

  #judgeHead(): MadeHead {
    const head = madeHead(this.#res);
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
    const { conditions } = this.#context;
    this.#identities.stop();
    const isCutShort = this.#departure?.mayBeCutShort(this.#context.settings.onDisconnect) === true;
    conditions.restore();
    if (hasBegun) this.#countStreaming();
    const body = this.#isSkipped ? undefined : Buffer.concat(this.#chunks, this.#size);
    try {
      if (body !== undefined && isCutShort) this.#dropIncomplete();
      else if (body !== undefined) this.#finish(body);
    } catch (error) {
      // Not to be stored is the worst that may happen to a response here.
      this.#failed(error);
    }
    if (!hasBegun && body !== undefined) this.#narrow(body);
    return undefined;
  }

  instead(): Replacement | undefined {
    return this.#replacement;
  }

  closedEarly(): void {
    this.#departure?.left();
    setTimeout(() => this.#context.fill.release(), AFTER_CLOSE_MS).unref();
  }

  #judge(head: MadeHead): void {
    const { settings, confirms, fallback, isRefresh } = this.#context;
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

  #tellClient({ headers }: MadeHead): void {
    const { settings, forwarded, key } = this.#context;
    // Of what streams on nobody knows yet whether it is too large.
    const willBeStored = !this.#isSkipped && headers['content-length'] !== undefined;
    addStatus(this.#res, statusOf(settings, `${forwarded}${willBeStored ? '; stored' : ''}`, key));
    if (this.#isSkipped || settings.downstream === undefined) return;
    if (settings.downstream === false) this.#res.removeHeader('Cache-Control');
    else this.#res.setHeader('Cache-Control', settings.downstream);
  }

  /** What streams is stored at its end, and was made when it began. */
  #countStreaming(): void {
    if (this.#head === undefined || this.#lifetime === undefined) return;
    const passedMs = Date.now() - this.#head.madeAt;
    this.#lifetime = lifetimeLater(this.#lifetime, passedMs, this.#ttl !== undefined);
    if (this.#lifetime.freshMs <= 0) this.#skip('no-lifetime');
  }

  #finish(body: Buffer): void {
    const head = this.#head;
    const declared = head?.headers['content-length'];
    // A body that is shorter or longer than it claims was cut off, or is none of ours.
    if (declared !== undefined && head?.status !== 304 && Number(declared) !== body.length) {
      this.#dropIncomplete();
      return;
    }
    const made = head && this.#madeOf(head, body);
    const reason = head && this.#reasonOfHandler(made?.head ?? head);
    if (reason !== undefined) this.#skip(reason);
    else if (made === undefined || this.#lifetime === undefined) this.#skip('validator');
    else this.#store(made.response, this.#lifetime);
  }

  #dropIncomplete(): void {
    const { fill, skipped } = this.#context;
    this.#isSkipped = true;
    this.#isIncomplete = true;
    skipped('incomplete');
    fill.release();
  }

  /** What is to be stored, and the head by which that is judged. */
  #madeOf(
    head: MadeHead,
    body: Buffer,
  ): { readonly head: MadeHead; readonly response: CachedResponse } | undefined {
    const { confirms } = this.#context;
    const hasTtl = this.#ttl !== undefined;
    if (head.status !== 304 || confirms === undefined) {
      return { head, response: madeResponse(head, body, this.#outer, this.#asked, hasTtl) };
    }
    const confirmed = confirmedResponse(head, confirms.content, this.#outer, hasTtl);
    this.#lifetime = confirmed && this.#lifetimeOf(confirmed.head);
    return confirmed;
  }

  #store(made: CachedResponse, lifetime: Lifetime): void {
    const { settings, fill, controls, nameOf, stored } = this.#context;
    const { tags } = settings;
    const own =
      typeof tags === 'function'
        ? checkTags('kit.cache: option `tags`: the tags', tags(asExpress(this.#req), this.#res as Res))
        : tags;
    const making = responseToFill(made, lifetime, [...own, ...controls.tags].map(nameOf), settings);
    // Not waited for: the command leaves before the response does, so this process's next read comes after it.
    void fill.store(making).then((bytes) => {
      if (bytes !== undefined) stored(bytes);
    });
  }

  /** Only the part that the client asked for, now that the whole is there. */
  #narrow(body: Buffer): void {
    if (this.#head?.status !== 200 || this.#isIncomplete) return;
    if (this.#replacement !== undefined && this.#replacement !== cutOff) return;
    const whole = measured(this.#head.headers, body.length);
    this.#replacement = narrowed(this.#context.conditions.request, whole, body);
  }

  #skip(reason: string): void {
    if (this.#isSkipped) return;
    this.#isSkipped = true;
    this.#chunks = [];
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

  #failed(error: unknown): void {
    this.#context.failed(error);
    this.#skip('error');
  }

  #sendFallback(res: ServerResponse, reset: () => void, entry: Entry<CachedResponse>, status: number): void {
    const { settings, key, now, conditions, fellBack } = this.#context;
    fellBack();
    reset();
    const how = `fwd=stale; fwd-status=${status}`;
    sendEntry(conditions.request, res, entry, { settings, key, now: now(), how });
  }
}
