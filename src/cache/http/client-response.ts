import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { isNotModified } from '../../http/message/conditional-request.ts';
import type { Replacement } from '../../http/response/guarded-response.ts';
import { type Entry, usabilityOf } from '../store/entry.ts';
import { addStatus, detailOf, statusOf } from './cache-status.ts';
import type { CachedResponse } from './cached-response.ts';
import type { CacheSettings } from './options.ts';
import { cutOff, notModified, rangeFor, rangeReplacement, representationOf } from './range-response.ts';
import { sendStored, sendValidated } from './send-response.ts';
import type { HandlerHead } from './storable.ts';
import { ERROR_STATUSES, type HandlerRun } from './storage-decision.ts';

export interface ClientResponseOptions {
  readonly settings: CacheSettings;
  /** The cache key, for Cache-Status. */
  readonly key: string;
  /** Why the handler runs, as Cache-Status has it. */
  readonly forwarded: string;
  readonly now: () => number;
  /** Called when the fallback is sent in place of the handler's response. */
  fellBack(): void;
}

/** The response that the client gets: the handler's, a part of it, a 304, or a stored response. */
export class ClientResponse {
  readonly #res: ServerResponse;
  readonly #run: HandlerRun;
  readonly #options: ClientResponseOptions;
  #replacement: Replacement | undefined;

  constructor(res: ServerResponse, run: HandlerRun, options: ClientResponseOptions) {
    this.#res = res;
    this.#run = run;
    this.#options = options;
  }

  /** Sends another response in place of the handler's. */
  get replacement(): Replacement | undefined {
    return this.#replacement;
  }

  /**
   * Decides by the complete head of the handler's response. `skippedFor` is why the response is not stored, as far as known;
   * with `sendsPart` the client gets a part of it while it streams.
   */
  begin(head: HandlerHead, skippedFor: string | undefined, sendsPart: boolean): void {
    const { fallback, conditions } = this.#run;
    const { forwarded, now } = this.#options;
    const isFallbackUsable = fallback !== undefined && usabilityOf(fallback, now()) !== 'invalid';
    if (isFallbackUsable && ERROR_STATUSES.has(head.status)) {
      this.#replacement = (res, reset) => this.#sendFallback(res, reset, fallback, head.status);
      return;
    }
    this.#describe(head.headers, skippedFor, forwarded);
    if (head.status !== 200 || sendsPart) return;
    const whole = representationOf(head.headers, Number(head.headers['content-length'] ?? Number.NaN));
    if (isNotModified(conditions.request, whole)) this.#replacement = notModified;
    // The body is buffered until a part of it can be sent, since it fits; no part is sent of a body that is cut off.
    else if (
      skippedFor === undefined &&
      whole.length >= 0 &&
      rangeFor(conditions.request, whole) !== undefined
    )
      this.#replacement = cutOff;
  }

  /** The handler's 304 has validated a stored response, which the client gets. */
  beginValidated(response: CachedResponse, skippedFor: string | undefined): void {
    const { settings, forwarded } = this.#options;
    this.#describe({ 'content-length': response.body.length }, skippedFor, `${forwarded}; fwd-status=304`);
    const hasDownstream = skippedFor === undefined && settings.downstream !== undefined;
    const isKept = (name: string) => hasDownstream && name === 'cache-control';
    this.#replacement = (res) => sendValidated(this.#run.conditions.request, res, response, isKept);
  }

  /** Narrows the complete response to the part that the client asked for. */
  narrow(head: HandlerHead | undefined, body: Buffer): void {
    if (head?.status !== 200) return;
    if (this.#replacement !== undefined && this.#replacement !== cutOff) return;
    const whole = representationOf(head.headers, body.length);
    this.#replacement = rangeReplacement(this.#run.conditions.request, whole, body);
  }

  /** Sets Cache-Status, and the Cache-Control of the option `downstream`. */
  #describe(headers: OutgoingHttpHeaders, skippedFor: string | undefined, forwarded: string): void {
    const { settings, key } = this.#options;
    // Only with a declared length is it known by now that the body is not too large.
    const willBeStored = skippedFor === undefined && headers['content-length'] !== undefined;
    const outcome = willBeStored ? '; stored' : detailOf(settings, skippedFor);
    addStatus(this.#res, statusOf(settings, `${forwarded}${outcome}`, key));
    if (skippedFor !== undefined || settings.downstream === undefined) return;
    if (settings.downstream === false) this.#res.removeHeader('Cache-Control');
    else this.#res.setHeader('Cache-Control', settings.downstream);
  }

  #sendFallback(res: ServerResponse, reset: () => void, entry: Entry<CachedResponse>, failure: number): void {
    const { settings, key, now, fellBack } = this.#options;
    fellBack();
    reset();
    const status = `fwd=stale; fwd-status=${failure}`;
    sendStored(this.#run.conditions.request, res, entry, { settings, key, now: now(), status });
  }
}
