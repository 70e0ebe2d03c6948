import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { BoundedMap } from '../../base/bounded-map.ts';
import {
  internalPurposeOf,
  keepClientAddress,
  rootAppOf,
  sendInternalRequest,
} from '../../http/internal-request.ts';
import { type Entry, type Validation, validationOf } from '../store/entry.ts';
import type { Fill } from '../store/fill.ts';
import type { CachedResponse } from './cached-response.ts';
import { validatingFields } from './conditions.ts';
import type { RequestKey } from './request-key.ts';

/** For this long, this process does not retry a refresh that failed or that another process runs. */
const RETRY_AFTER_MS = 1_000;
const LONGEST_REFRESH_MS = 60_000;

/** After this many refusals in a row, a client's own request refreshes; otherwise the response would stay stale. */
const MAX_REFUSALS = 3;
const NOT_FOUND = 404;
const REMEMBERED_BYTES = 2 * 2 ** 20;

/** The fields of a client's request that are not copied to the refresh. */
const NOT_FOR_REFRESH = new Set([
  ...['if-none-match', 'if-modified-since', 'if-match', 'if-unmodified-since', 'if-range', 'range'],
  ...['connection', 'content-length', 'transfer-encoding', 'expect', 'upgrade', 'cache-control', 'pragma'],
]);

/** The purpose of an internal request: to refresh a stale response. */
export class Refresh {
  /** Whether the internal request has passed earlier middleware and reached this cache. */
  wasReached = false;
  readonly refresher: Refresher;
  readonly key: RequestKey;
  readonly fill: Fill<CachedResponse>;
  /** The stale response that the handler is asked to validate; undefined for none. */
  readonly validation: Validation<CachedResponse> | undefined;

  constructor(
    refresher: Refresher,
    key: RequestKey,
    fill: Fill<CachedResponse>,
    validation: Validation<CachedResponse> | undefined,
  ) {
    this.refresher = refresher;
    this.key = key;
    this.fill = fill;
    this.validation = validation;
  }
}

/** A stale response, and a request that the stale response has answered. */
export interface StaleHit {
  readonly req: IncomingMessage;
  readonly key: RequestKey;
  readonly entry: Entry<CachedResponse>;
}

export interface RefreshListener {
  failed(error: unknown): void;
  /** Earlier middleware responded to the internal request with this status; undefined if no response came. */
  refused(url: string, status: number | undefined): void;
}

/** Refreshes stale responses in the background by internal requests to the app. */
export class Refresher {
  readonly #now: () => number;
  readonly #listener: RefreshListener;
  /** For each key, the time until which a refresh is running or must not be retried. */
  readonly #until = new BoundedMap<number>(REMEMBERED_BYTES);
  /** The keys for which a handler sent a 304 that validated nothing. */
  readonly #unvalidatable = new BoundedMap<true>(REMEMBERED_BYTES);
  /** For each key, the number of refusals in a row. */
  readonly #refusals = new BoundedMap<number>(REMEMBERED_BYTES);

  constructor(now: () => number, listener: RefreshListener) {
    this.#now = now;
    this.#listener = listener;
  }

  /** Whether a refresh of the key is running, or must not be retried yet. */
  isRefreshing(id: string): boolean {
    return (this.#until.get(id) ?? Number.NEGATIVE_INFINITY) > this.#now();
  }

  /** Notes that a client's request refreshes. Others get the stale response; internal requests are retried later. */
  leaveToClient(id: string): void {
    this.#refusals.delete(id);
    this.#until.set(id, this.#now() + RETRY_AFTER_MS);
  }

  /** The app for an internal request; undefined on Connect and plain `node:http`, and after too many refusals. */
  rootAppOf(req: IncomingMessage, id: string): ReturnType<typeof rootAppOf> {
    return (this.#refusals.get(id) ?? 0) < MAX_REFUSALS ? rootAppOf(req) : undefined;
  }

  /**
   * The refresh that an internal request carries out; undefined for other requests. Compares exact ids, since the key
   * of the URL may have got another rule meanwhile.
   */
  refreshOf(req: IncomingMessage, { exactId }: RequestKey): Refresh | undefined {
    const refresh = internalPurposeOf(req);
    if (!(refresh instanceof Refresh) || refresh.refresher !== this || refresh.key.exactId !== exactId)
      return undefined;
    refresh.wasReached = true;
    return refresh;
  }

  /** Notes that the handler sent a 304 that does not belong to the stored response, or one that forbids storing. */
  cannotValidate(id: string): void {
    this.#unvalidatable.set(id, true);
  }

  /** Notes that a whole response was stored: the pause ends, and the handler may be able to validate the response. */
  wholeStored(id: string): void {
    this.#unvalidatable.delete(id);
    this.#until.delete(id);
  }

  /** Whether the handler can be asked to validate a stored response. */
  validates(id: string, { status, etag, lastModified }: CachedResponse): boolean {
    const hasValidator = status === 200 && (etag !== undefined || lastModified !== undefined);
    return hasValidator && this.#unvalidatable.get(id) !== true;
  }

  /** Sends an internal request to the app if `begin` returns a fill, as it does in only one process. Never rejects. */
  async refresh(
    app: NonNullable<ReturnType<typeof rootAppOf>>,
    hit: StaleHit,
    begin: () => Promise<Fill<CachedResponse> | undefined>,
  ): Promise<void> {
    const { id } = hit.key;
    this.#until.set(id, this.#now() + LONGEST_REFRESH_MS);
    keepClientAddress(hit.req);
    let isDone = false;
    try {
      const fill = await begin();
      if (fill !== undefined) isDone = await this.#runApp(app, hit, fill);
    } catch (error) {
      this.#listener.failed(error);
    }
    if (isDone) this.#until.delete(id);
    else this.#until.set(id, this.#now() + RETRY_AFTER_MS);
  }

  /** Resolves to true if the handler's response was stored or is known not to be storable. */
  async #runApp(
    app: NonNullable<ReturnType<typeof rootAppOf>>,
    { req, key, entry }: StaleHit,
    fill: Fill<CachedResponse>,
  ): Promise<boolean> {
    const { id, url } = key;
    const validation = this.validates(id, entry.content) ? validationOf(entry) : undefined;
    const refresh = new Refresh(this, key, fill, validation);
    let status: number | undefined;
    try {
      const headers = refreshHeaders(req.headers, validation?.entry.content);
      const request = { like: req, headers, purpose: refresh, timeoutMs: LONGEST_REFRESH_MS };
      status = await sendInternalRequest(app, request);
      return fill.isOver;
    } finally {
      fill.abandon();
      if (refresh.wasReached) this.#refusals.delete(id);
      else this.#noteRefusal(id, url, status);
    }
  }

  #noteRefusal(id: string, url: string, status: number | undefined): void {
    // A sub-app that rewrites its URLs never finds the client's URL, so a retry is useless.
    const isFinal = status === undefined || status === NOT_FOUND;
    this.#refusals.set(id, isFinal ? MAX_REFUSALS : (this.#refusals.get(id) ?? 0) + 1);
    this.#listener.refused(url, status);
  }
}

/** The headers of the refresh: those of the client's request, and the validators of the stale response. */
function refreshHeaders(
  headers: IncomingHttpHeaders,
  stale: CachedResponse | undefined,
): IncomingHttpHeaders {
  const kept = Object.entries(headers).filter(([name]) => !NOT_FOR_REFRESH.has(name));
  return {
    ...Object.fromEntries(kept),
    ...(stale === undefined ? {} : validatingFields(stale)),
  };
}
