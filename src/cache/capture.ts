import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Replacement, ResponseHook } from '../http/before-end.ts';
import { isNotModified, validatorsOf } from '../http/conditional.ts';
import { asExpress, type Res } from '../http/middleware.ts';
import { headerTexts } from '../http/own-headers.ts';
import { type CachedResponse, packInfo } from './cached-response.ts';
import type { Conditions } from './conditions.ts';
import type { Entry, Lifetime } from './entry.ts';
import type { Fill } from './fill.ts';
import { lifetimeLater, lifetimeOf } from './freshness.ts';
import type { HandlerControls } from './handler-controls.ts';
import { confirmedResponse, type MadeHead, madeHead, madeResponse } from './made.ts';
import type { CacheSettings } from './options.ts';
import { cutOff, narrowed, notModified, sendEntry, wantsPart } from './serve.ts';
import { checkTags, checkTtl } from './shared-options.ts';
import { addStatus, statusOf } from './status.ts';
import { isForAll, reasonNotToStore } from './storable.ts';

/** Tells whether a handler looked at the session; the session room gives it, `kit.ts` passes it in. */
export type WatchSession = (
  req: IncomingMessage,
  res: ServerResponse,
) => { readonly wasRead: boolean; stop(): void };

/** What a response is captured for. */
export interface CaptureContext {
  readonly settings: CacheSettings;
  readonly key: string;
  readonly fill: Fill<CachedResponse>;
  /** What is sent instead of a server error. */
  readonly fallback: Entry<CachedResponse> | undefined;
  /** Whether it is to take the place of what is stale, for no client of its own. */
  readonly isRefresh: boolean;
  /** The stale response that the handler was asked to confirm. */
  readonly confirms: Entry<CachedResponse> | undefined;
  /** What the client wants only under conditions; the handler does not see them. */
  readonly conditions: Conditions;
  readonly controls: HandlerControls;
  readonly watchSession: WatchSession;
  readonly now: () => number;
  /** Why the handler was asked, as Cache-Status has it. */
  readonly forwarded: string;
  /** How a tag stands among what purges. */
  nameOf(tag: string): string;
  /** What is stale was sent instead. */
  fellBack(): void;
  stored(bytes: number): void;
  skipped(reason: string): void;
  failed(error: unknown): void;
}

/** A server error for which RFC 5861, section 4, allows what is stale. */
const ERRORS = new Set([500, 502, 503, 504]);

/** How long the others wait for a handler whose client has gone and that may have stopped with it. */
const AFTER_CLOSE_MS = 1_000;

/** Listens to a response as the handler makes it, and stores or skips it when it is complete. */
export class Capture implements ResponseHook {
  readonly phase = 'capture';
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #context: CaptureContext;
  readonly #outer: ReadonlyMap<string, string>;
  readonly #session: ReturnType<WatchSession> | undefined;
  readonly #requestedAt = Date.now();
  #chunks: Buffer[] = [];
  #size = 0;
  #head: MadeHead | undefined;
  #lifetime: Lifetime | undefined;
  #isSkipped = false;
  #isIncomplete = false;
  #replacement: Replacement | undefined;

  constructor(req: IncomingMessage, res: ServerResponse, context: CaptureContext) {
    this.#req = req;
    this.#res = res;
    this.#context = context;
    this.#outer = headerTexts(res.getHeaders());
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
    const head = madeHead(this.#res);
    this.#head = head;
    try {
      this.#judge(head);
    } catch (error) {
      this.#failed(error);
    }
    const { fallback, conditions } = this.#context;
    if (fallback !== undefined && ERRORS.has(head.status)) {
      this.#replacement = (res, reset) => this.#sendFallback(res, reset, fallback, head.status);
      return undefined;
    }
    this.#tellClient(head);
    if (head.status !== 200) return undefined;
    const validators = validatorsOf(pairsOf(head));
    const length = Number(head.headers['content-length'] ?? Number.NaN);
    if (isNotModified(conditions.request, validators)) this.#replacement = notModified;
    // What streams is held back for the part of it, since it fits; of what is cut off there is none.
    else if (!this.#isSkipped && length >= 0 && wantsPart(conditions.request, { length, ...validators })) {
      this.#replacement = cutOff;
    }
    return undefined;
  }

  beforeEnd(hasBegun: boolean): undefined {
    const { conditions } = this.#context;
    this.#session?.stop();
    conditions.restore();
    if (hasBegun) this.#countStreaming();
    const body = this.#isSkipped ? undefined : Buffer.concat(this.#chunks, this.#size);
    try {
      if (body !== undefined) this.#finish(body);
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
    const { settings } = this.#context;
    if (this.#head === undefined || this.#lifetime === undefined) return;
    const passedMs = Date.now() - this.#head.madeAt;
    this.#lifetime = lifetimeLater(this.#lifetime, passedMs, settings.ttl !== undefined);
    if (this.#lifetime.freshMs <= 0) this.#skip('no-lifetime');
  }

  #finish(body: Buffer): void {
    const { fill, controls, skipped } = this.#context;
    const head = this.#head;
    const declared = head?.headers['content-length'];
    // A body that is shorter or longer than it claims was cut off, or is none of ours.
    if (declared !== undefined && head?.status !== 304 && Number(declared) !== body.length) {
      this.#isSkipped = true;
      this.#isIncomplete = true;
      skipped('incomplete');
      fill.release();
      return;
    }
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
      return madeResponse(head, body, this.#outer, this.#req.headers, hasTtl);
    }
    const confirmed = confirmedResponse(head, confirms.content, this.#outer, hasTtl);
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

  /** Only the part that the client asked for, now that the whole is there. */
  #narrow(body: Buffer): void {
    if (this.#head?.status !== 200 || this.#isIncomplete) return;
    if (this.#replacement !== undefined && this.#replacement !== cutOff) return;
    const validators = validatorsOf(pairsOf(this.#head));
    this.#replacement = narrowed(this.#context.conditions.request, { body, ...validators });
  }

  #skip(reason: string): void {
    if (this.#isSkipped) return;
    this.#isSkipped = true;
    this.#chunks = [];
    const { fill, fallback, isRefresh, skipped } = this.#context;
    const isError = ERRORS.has(this.#head?.status ?? 0);
    if (isError && fallback !== undefined) fill.fallBackOn(fallback);
    // What is stale is still there for who comes next, and must be looked for.
    else if (isError && isRefresh) fill.release();
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

/** What tells a response from another version of itself, as text. */
function pairsOf({ headers }: MadeHead): [name: string, value: string][] {
  return ['etag', 'last-modified', 'date'].flatMap((name) => {
    const value = headers[name];
    return value === undefined ? [] : [[name, String(value)]];
  });
}
