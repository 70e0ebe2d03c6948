import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { isNotModified } from '../../http/message/conditional.ts';
import type { Replacement } from '../../http/response/before-end.ts';
import { type Entry, usabilityOf, type Validation } from '../store/entry.ts';
import type { CachedResponse } from './cached-response.ts';
import type { Conditions } from './conditions.ts';
import type { MadeHead } from './made.ts';
import type { CacheSettings } from './options.ts';
import { cutOff, measured, narrowed, notModified, sendEntry, sendValidated, wantsPart } from './serve.ts';
import { addStatus, detailOf, statusOf } from './status.ts';

/** What decides on the client's part of a response. */
export interface ClientContext {
  readonly settings: CacheSettings;
  readonly key: string;
  /** What is sent instead of a server error. */
  readonly fallback: Entry<CachedResponse> | undefined;
  /** The stored response that the handler was asked to validate. */
  readonly validation: Validation<CachedResponse> | undefined;
  /** What the client wants only under conditions; the handler does not see them. */
  readonly conditions: Conditions;
  /** Why the handler was asked, as Cache-Status has it. */
  readonly forwarded: string;
  readonly now: () => number;
  /** What is stale was sent instead. */
  fellBack(): void;
}

/** A server error for which RFC 5861, section 4, allows what is stale. */
export const ERRORS: ReadonlySet<number> = new Set([500, 502, 503, 504]);

/** What the client gets of a response that its handler makes whole: that, a part of it, a 304, or what is stale. */
export class ClientResponse {
  readonly #res: ServerResponse;
  readonly #context: ClientContext;
  #replacement: Replacement | undefined;

  constructor(res: ServerResponse, context: ClientContext) {
    this.#res = res;
    this.#context = context;
  }

  /** What is sent in the place of the handler's response. */
  get replacement(): Replacement | undefined {
    return this.#replacement;
  }

  /**
   * The handler's head is complete; `skippedFor` says why it is known that it is not stored, and `isPart` that the client
   * gets a part of it while it streams.
   */
  begin(head: MadeHead, skippedFor: string | undefined, isPart: boolean): void {
    const { fallback, conditions, now } = this.#context;
    const isFallbackUsable = fallback !== undefined && usabilityOf(fallback, now()) !== 'invalid';
    if (isFallbackUsable && ERRORS.has(head.status)) {
      this.#replacement = (res, reset) => this.#sendFallback(res, reset, fallback, head.status);
      return;
    }
    this.#describe(head.headers, skippedFor, this.#context.forwarded);
    if (head.status !== 200 || isPart) return;
    const whole = measured(head.headers, Number(head.headers['content-length'] ?? Number.NaN));
    if (isNotModified(conditions.request, whole)) this.#replacement = notModified;
    // A streamed body is held back for the part of it, since it fits; of a body that is cut off no part is sent.
    else if (skippedFor === undefined && whole.length >= 0 && wantsPart(conditions.request, whole)) {
      this.#replacement = cutOff;
    }
  }

  /** The handler's 304 has validated a stored response, which the client gets by its own conditions. */
  beginValidated(response: CachedResponse, skippedFor: string | undefined): void {
    const { settings, conditions, forwarded } = this.#context;
    const length = response.body.length;
    this.#describe({ 'content-length': length }, skippedFor, `${forwarded}; fwd-status=304`);
    const isRedirected = skippedFor === undefined && settings.downstream !== undefined;
    const isOwn = (name: string) => isRedirected && name === 'cache-control';
    this.#replacement = (res) => sendValidated(conditions.request, res, response, isOwn);
  }

  /** Only the part that the client asked for, now that the whole is complete. */
  narrow(head: MadeHead | undefined, body: Buffer): void {
    if (head?.status !== 200) return;
    if (this.#replacement !== undefined && this.#replacement !== cutOff) return;
    const whole = measured(head.headers, body.length);
    this.#replacement = narrowed(this.#context.conditions.request, whole, body);
  }

  #describe(headers: OutgoingHttpHeaders, skippedFor: string | undefined, forwarded: string): void {
    const { settings, key } = this.#context;
    // Whether a body without a length is too large is known only at its end.
    const willBeStored = skippedFor === undefined && headers['content-length'] !== undefined;
    const outcome = willBeStored ? '; stored' : detailOf(settings, skippedFor);
    addStatus(this.#res, statusOf(settings, `${forwarded}${outcome}`, key));
    if (skippedFor !== undefined || settings.downstream === undefined) return;
    if (settings.downstream === false) this.#res.removeHeader('Cache-Control');
    else this.#res.setHeader('Cache-Control', settings.downstream);
  }

  #sendFallback(res: ServerResponse, reset: () => void, entry: Entry<CachedResponse>, status: number): void {
    const { settings, key, now, conditions, fellBack } = this.#context;
    fellBack();
    reset();
    const how = `fwd=stale; fwd-status=${status}`;
    sendEntry(conditions.request, res, entry, { settings, key, now: now(), how });
  }
}
