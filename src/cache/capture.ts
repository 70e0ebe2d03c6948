import type { IncomingMessage, ServerResponse } from 'node:http';
import type { LateHeaders, Replacement, ResponseHook } from '../http/before-end.ts';
import { asExpress, type Res } from '../http/middleware.ts';
import { type OwnHeaders, watchOwnHeaders } from '../http/own-headers.ts';
import { type CachedResponse, packInfo } from './cached-response.ts';
import { type ClientContext, ClientResponse, ERRORS } from './client-response.ts';
import type { Entry, Lifetime } from './entry.ts';
import type { Fill } from './fill.ts';
import { lifetimeLater, lifetimeOf } from './freshness.ts';
import type { HandlerControls } from './handler-controls.ts';
import { confirmedResponse, type MadeHead, madeHead, madeResponse, withLate } from './made.ts';
import { checkTags, checkTtl } from './shared-options.ts';
import { isForAll, OF_THIS_CACHE, reasonNotToStore } from './storable.ts';

/** Tells whether a handler looked at the session; the session room gives it, `kit.ts` passes it in. */
export type WatchSession = (
  req: IncomingMessage,
  res: ServerResponse,
) => { readonly wasRead: boolean; stop(): void };

/** What a response is captured for. */
export interface CaptureContext extends ClientContext {
  readonly fill: Fill<CachedResponse>;
  /** Whether it is to take the place of what is stale, for no client of its own. */
  readonly isRefresh: boolean;
  /** The stale response that the handler was asked to confirm. */
  readonly confirms: Entry<CachedResponse> | undefined;
  readonly controls: HandlerControls;
  readonly watchSession: WatchSession;
  /** How a tag stands among what purges. */
  nameOf(tag: string): string;
  stored(bytes: number): void;
  skipped(reason: string): void;
  failed(error: unknown): void;
}

/** How long the others wait for a handler whose client has gone and that may have stopped with it. */
const AFTER_CLOSE_MS = 1_000;

/** Listens to a response as the handler makes it, and stores or skips it when it is complete. */
export class Capture implements ResponseHook {
  readonly phase = 'capture';
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #context: CaptureContext;
  readonly #ownHeaders: () => OwnHeaders;
  readonly #client: ClientResponse;
  readonly #session: ReturnType<WatchSession> | undefined;
  readonly #requestedAt = Date.now();
  #chunks: Buffer[] = [];
  #size = 0;
  #head: MadeHead | undefined;
  #lifetime: Lifetime | undefined;
  #skippedFor: string | undefined;
  /** Whether Node has the head: it may show until then that the response must not be stored. */
  #hasHeadLeft = false;
  #body: Buffer | undefined;

  constructor(req: IncomingMessage, res: ServerResponse, context: CaptureContext) {
    this.#req = req;
    this.#res = res;
    this.#context = context;
    this.#client = new ClientResponse(res, context);
    this.#ownHeaders = watchOwnHeaders(res, (name) => OF_THIS_CACHE.has(name));
    // A key that names the session gives each its own.
    if (context.settings.key.session === undefined) this.#session = context.watchSession(req, res);
  }

  chunk(chunk: Buffer): void {
    this.#size += chunk.length;
    if (this.#isSkipped) return;
    if (this.#size > this.#context.settings.maxBody) this.#skip('too-large');
    else this.#chunks.push(chunk);
  }

  beforeHeaders(): undefined {
    const head = madeHead(this.#res, this.#ownHeaders());
    this.#head = head;
    try {
      this.#judge(head);
    } catch (error) {
      this.#failed(error);
    }
    this.#client.begin(head, this.#skippedFor);
    return undefined;
  }

  beforeEnd(hasBegun: boolean): undefined {
    const { conditions } = this.#context;
    this.#session?.stop();
    conditions.restore();
    if (hasBegun) this.#countStreaming();
    const body = this.#isSkipped ? undefined : Buffer.concat(this.#chunks, this.#size);
    if (body !== undefined && this.#isWhole(body)) {
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
    setTimeout(() => this.#context.fill.release(), AFTER_CLOSE_MS).unref();
  }

  #judge(head: MadeHead): void {
    const { settings, confirms, controls, fallback, isRefresh } = this.#context;
    const { status, headers, directives } = head;
    if (status === 304 && confirms !== undefined) return;
    if (ERRORS.has(status) && (isRefresh || fallback !== undefined)) {
      // With a lifetime of its own it would take the place of what is sent instead.
      this.#skip('status');
      return;
    }
    const { mayVaryOn, statuses } = settings;
    const rules = { statuses, mayVaryOn, hasTtl: settings.ttl !== undefined };
    const reason =
      reasonNotToStore(status, headers, directives, rules) ??
      (controls.mayStore ? undefined : 'no-store') ??
      (this.#session?.wasRead === true ? 'session-read' : undefined) ??
      (this.#mayStoreForCredentials(head) ? undefined : 'authorization');
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

  #mayStoreForCredentials({ directives }: MadeHead): boolean {
    if (this.#req.headers.authorization === undefined || isForAll(directives)) return true;
    return this.#context.settings.key.headers.includes('authorization');
  }

  #lifetimeOf({ status, headers, directives, madeAt }: MadeHead): Lifetime | undefined {
    const { settings } = this.#context;
    let { ttl } = settings;
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
    const { settings } = this.#context;
    if (this.#head === undefined || this.#lifetime === undefined) return;
    const passedMs = Date.now() - this.#head.madeAt;
    this.#lifetime = lifetimeLater(this.#lifetime, passedMs, settings.ttl !== undefined);
    if (this.#lifetime.freshMs <= 0) this.#skip('no-lifetime');
  }

  /** A body that is shorter or longer than it claims was cut off, or is none of ours. */
  #isWhole(body: Buffer): boolean {
    const { fill, skipped } = this.#context;
    const declared = this.#head?.headers['content-length'];
    if (declared === undefined || this.#head?.status === 304 || Number(declared) === body.length) return true;
    this.#skippedFor = 'incomplete';
    skipped('incomplete');
    fill.release();
    return false;
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
    const { controls } = this.#context;
    const head = this.#head;
    const made = head === undefined ? undefined : this.#madeOf(head, body);
    if (this.#session?.wasRead === true) this.#skip('session-read');
    else if (!controls.mayStore) this.#skip('no-store');
    else if (made === undefined || this.#lifetime === undefined) this.#skip('validator');
    else this.#store(made, this.#lifetime);
  }

  #madeOf(head: MadeHead, body: Buffer): CachedResponse | undefined {
    const { confirms, settings } = this.#context;
    const hasTtl = settings.ttl !== undefined;
    if (head.status !== 304 || confirms === undefined) {
      return madeResponse(head, body, this.#req.headers, hasTtl);
    }
    const confirmed = confirmedResponse(head, confirms.content, hasTtl);
    this.#lifetime = confirmed && this.#lifetimeOf(confirmed.head);
    return confirmed?.response;
  }

  #store(made: CachedResponse, lifetime: Lifetime): void {
    const { settings, fill, controls, nameOf, stored } = this.#context;
    const { tags, maxVariants, policy, maxEntries } = settings;
    const own =
      typeof tags === 'function'
        ? checkTags('kit.cache: option `tags`: the tags', tags(asExpress(this.#req), this.#res as Res))
        : tags;
    const making = {
      content: made,
      info: packInfo(made),
      body: made.body,
      lifetime,
      tags: [...own, ...controls.tags].map(nameOf),
      variesOn: made.vary.names,
      maxVariants,
      bound: policy === undefined || maxEntries === undefined ? undefined : { policy, maxEntries },
    };
    // Not waited for: the command leaves before the response does, so this process's next read comes after it.
    void fill.store(making).then((bytes) => {
      if (bytes !== undefined) stored(bytes);
    });
  }

  #skip(reason: string): void {
    if (this.#isSkipped) return;
    this.#skippedFor = reason;
    this.#chunks = [];
    this.#body = undefined;
    const { fill, fallback, isRefresh, skipped } = this.#context;
    const isError = ERRORS.has(this.#head?.status ?? 0);
    if (isError && fallback !== undefined) fill.fallBackOn(fallback);
    // What is stale is still there for who comes next, and must be looked for.
    else if (isError && isRefresh) fill.release();
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
