import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Keys } from '../../base/keys.ts';
import { IdentityWatch } from '../../http/identity/identity-watch.ts';
import { asExpress, type Res } from '../../http/middleware.ts';
import type { Entry, Lifetime, Validation } from '../store/entry.ts';
import { checkTtl } from '../store/options.ts';
import { type CachedResponse, responseToStore, type StorageUse } from './cached-response.ts';
import { type Conditions, NO_CONDITIONS } from './conditions.ts';
import { lifetimeAfter, lifetimeOf } from './freshness.ts';
import type { HandlerControls } from './handler-controls.ts';
import { responseNames } from './invalidation.ts';
import type { CacheSettings } from './options.ts';
import { type PartTarget, partToStore } from './partial-content.ts';
import { type HandlerHead, hasEtag, isForAll, reasonNotToStore } from './storable.ts';
import { type ValidatedResponse, validatedResponse } from './validated-response.ts';
import { varyNames } from './vary.ts';

/** The statuses that `stale-if-error` replaces with a stale response (RFC 5861, section 4). */
export const ERROR_STATUSES: ReadonlySet<number> = new Set([500, 502, 503, 504]);

/** A handler's run. Its response may validate a stored one, extend a stored part, or be replaced by a stale one. */
export interface HandlerRun {
  /** The stale response to send in place of a server error; undefined for none. */
  readonly fallback: Entry<CachedResponse> | undefined;
  /** The stored response that the handler is asked to validate; undefined for none. */
  readonly validation: Validation<CachedResponse> | undefined;
  /** The target for a 206 of the handler; undefined for a request without Range. */
  readonly part: PartTarget | undefined;
  /** The client's conditional fields, which may be removed from the request while the handler runs. */
  readonly conditions: Conditions;
  /** Whether the run refreshes a stale response and has no client. */
  readonly isRefresh: boolean;
}

/** A run without stored responses, of a handler that gets its request unchanged. */
export const PLAIN_RUN: HandlerRun = {
  fallback: undefined,
  validation: undefined,
  part: undefined,
  conditions: NO_CONDITIONS,
  isRefresh: false,
};

/** The settings, keys and controls that a decision uses. */
export interface DecisionOptions {
  readonly settings: CacheSettings;
  readonly keys: Keys;
  readonly controls: HandlerControls;
  /** Returns a further reason not to store the response. */
  reasonNotToStore?(head: HandlerHead): string | undefined;
}

/** Decides whether and how a response is stored. A reason not to store is a string, as in the event `cache:skipped`. */
export class StorageDecision {
  readonly run: HandlerRun;
  readonly settings: CacheSettings;
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #options: DecisionOptions;
  /** Read before the identity watch begins, which would take a read by the cache for one by the handler. */
  readonly #requestHeaders: IncomingMessage['headers'];
  readonly #hasCredentials: boolean;
  readonly #identities: IdentityWatch;
  readonly #requestedAt = Date.now();
  /** The app's `ttl`, read when the handler's head is complete. */
  #ttl: CacheSettings['ttl'];
  #head: HandlerHead | undefined;
  #lifetime: Lifetime | undefined;
  #validated: ValidatedResponse | undefined;

  constructor(req: IncomingMessage, res: ServerResponse, run: HandlerRun, options: DecisionOptions) {
    const { settings } = options;
    this.run = run;
    this.settings = settings;
    this.#req = req;
    this.#res = res;
    this.#options = options;
    this.#requestHeaders = req.headers;
    this.#hasCredentials = req.headers.authorization !== undefined;
    const { identities, key } = settings;
    this.#identities = new IdentityWatch(req, res, { identities, knownCookies: key.cookies });
  }

  /** The stored response with the headers of the handler's 304; undefined without a 304. */
  get validated(): CachedResponse | undefined {
    return this.#validated?.response;
  }

  /** Decides by the handler's complete head. Returns why the response is not stored; undefined if it may be stored. */
  judgeHead(head: HandlerHead): string | undefined {
    this.#ttl = this.#options.controls.ttlMs ?? this.settings.ttl;
    return this.judgeChangedHead(head);
  }

  /** Decides again by a head that earlier middleware changed. Returns the reason not to store the response, if any. */
  judgeChangedHead(handlerHead: HandlerHead): string | undefined {
    this.#head = handlerHead;
    const { validation, fallback, isRefresh, part } = this.run;
    const head = part?.judgedHead(handlerHead) ?? handlerHead;
    if (head.status === 304 && validation !== undefined) {
      return this.#judgeValidated(validatedResponse(head, validation.entry.content, this.#hasTtl));
    }
    // With any lifetime, an error must not replace the stale response that can be sent in its place.
    if (ERROR_STATUSES.has(head.status) && (isRefresh || fallback !== undefined)) return 'status';
    // A stored part cannot be validated.
    const isValidatable = head === handlerHead && hasEtag(head.status, head.own);
    const rules = { ...this.settings, hasTtl: this.#hasTtl, isValidatable };
    const reason = reasonNotToStore(head, rules) ?? this.#reasonOfHandler(head);
    this.#lifetime = reason === undefined ? this.#lifetimeOf(head) : undefined;
    if (reason !== undefined) return reason;
    if (this.#lifetime === undefined) return 'no-lifetime';
    return Number(head.headers['content-length'] ?? 0) > this.settings.maxBody ? 'too-large' : undefined;
  }

  /** To be called when the handler has ended its response: later reads of an identity do not affect storing. */
  handlerEnded(): void {
    this.#identities.stop();
  }

  /** Shortens the lifetime by the time that the body has streamed. Returns why the response can no longer be stored. */
  countStreaming(): string | undefined {
    if (this.#head === undefined || this.#lifetime === undefined) return undefined;
    // The clock of the system can go back.
    const streamedMs = Math.max(0, Date.now() - this.#head.respondedAt);
    this.#lifetime = lifetimeAfter(this.#lifetime, streamedMs, this.#hasTtl);
    return this.#lifetime === undefined ? 'no-lifetime' : undefined;
  }

  /** Returns the stored form of the whole response, or why it is not stored; undefined without a storable head. */
  conclude(
    body: Buffer,
  ): { readonly response: CachedResponse; readonly use: StorageUse } | string | undefined {
    const { head = this.#head, response: validated } = this.#validated ?? {};
    const lifetime = this.#lifetime;
    if (head === undefined || lifetime === undefined) return undefined;
    const reason = this.#reasonOfHandler(head);
    const toStore = this.run.part?.hasPart === true ? partToStore : responseToStore;
    const response = validated ?? toStore(head, body, this.#requestHeaders, this.#hasTtl);
    if (reason !== undefined || response === undefined) return reason ?? 'partial';
    const { settings, controls, keys } = this.#options;
    const tagged = { settings, tags: controls.tags, headers: head.headers };
    const names = responseNames(this.#req, this.#res, tagged, keys);
    const validation = validated && this.run.validation;
    return { response, use: { lifetime, names, validation } };
  }

  #judgeValidated(validated: ValidatedResponse): string | undefined {
    this.#validated = validated;
    const { head, isStorable } = validated;
    this.#lifetime = isStorable ? this.#lifetimeOf(head) : undefined;
    return this.#reasonOfHandler(head) ?? (this.#lifetime === undefined ? 'validator' : undefined);
  }

  /** Whether the app sets the lifetime, by the option `ttl` or by `req.cache.ttl()`. */
  get #hasTtl(): boolean {
    return this.#ttl !== undefined;
  }

  /** The lifetime of a response; undefined if it must not be stored. Throws the error of the app's `ttl` function. */
  #lifetimeOf(head: HandlerHead): Lifetime | undefined {
    const ttl = this.#ttl;
    const result = typeof ttl === 'function' ? ttl(asExpress(this.#req), this.#res as Res) : ttl;
    if (result === false) return undefined;
    const ttlMs = typeof ttl === 'function' ? checkTtl('kit.cache: option `ttl`', result) : ttl;
    return lifetimeOf({ ...head, requestedAt: this.#requestedAt }, { ...this.settings, ttl: ttlMs });
  }

  /** The reason not to store that the handler gave by `req.cache.noStore()`, or that its reads of the request imply. */
  #reasonOfHandler(head: HandlerHead): string | undefined {
    const { noStoreReason } = this.#options.controls;
    return noStoreReason ?? this.#reasonOfIdentities(head) ?? this.#options.reasonNotToStore?.(head);
  }

  /** The reason not to store a response that may depend on an identity its key does not contain. */
  #reasonOfIdentities(head: HandlerHead): string | undefined {
    const { readsSession, readsCookies, readsAuthorization } = this.#identities;
    if (readsSession && this.settings.key.session === undefined) return 'session-read';
    if (readsCookies && !this.#selects('cookie', head)) return 'cookie-read';
    if (!isForAll(head.directives)) {
      // A response that is not for all answers no request with Authorization (RFC 9111, section 3.5), so for all its
      // requests the handler reads the same: no field.
      return this.#hasCredentials && !this.#isInKey('authorization') ? 'authorization' : undefined;
    }
    return readsAuthorization && !this.#selects('authorization', head) ? 'authorization-read' : undefined;
  }

  /** Whether the key or Vary contains a request header. */
  #selects(field: string, { headers }: HandlerHead): boolean {
    return this.#isInKey(field) || varyNames(headers).split(',').includes(field);
  }

  #isInKey(field: string): boolean {
    return this.settings.key.headers.includes(field);
  }
}
