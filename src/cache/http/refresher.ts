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

/** How long nobody in this process tries to refresh again what somebody else does, or what could not be. */
const AGAIN_MS = 1_000;
const LONGEST_REFRESH_MS = 60_000;

/** After so many refusals in a row a client revalidates itself, so that a response is not stale to the end of its window. */
const MAX_REFUSALS = 3;
const NOT_FOUND = 404;
const REMEMBERED_BYTES = 2 * 2 ** 20;

/** Of the request that asked last, not of the response. */
const NOT_FOR_REFRESH = new Set([
  ...['if-none-match', 'if-modified-since', 'if-match', 'if-unmodified-since', 'if-range', 'range'],
  ...['connection', 'content-length', 'transfer-encoding', 'expect', 'upgrade', 'cache-control', 'pragma'],
]);

/** Why a handler runs for a request that no client made: to make a stale response anew. */
export class Refresh {
  wasReached = false;
  readonly of: Refresher;
  readonly key: RequestKey;
  readonly fill: Fill<CachedResponse>;
  /** The stale response that the handler is asked to validate. */
  readonly validation: Validation<CachedResponse> | undefined;

  constructor(
    of: Refresher,
    key: RequestKey,
    fill: Fill<CachedResponse>,
    validation: Validation<CachedResponse> | undefined,
  ) {
    this.of = of;
    this.key = key;
    this.fill = fill;
    this.validation = validation;
  }
}

/** A stale response, and a request that was answered with it. */
export interface Stale {
  readonly req: IncomingMessage;
  readonly key: RequestKey;
  readonly entry: Entry<CachedResponse>;
}

export interface RefresherDeps {
  readonly now: () => number;
  readonly failed: (error: unknown) => void;
  /** Something above the cache has answered: with this status, or with none. */
  readonly refused: (url: string, status: number | undefined) => void;
}

/** Has stale responses revalidated behind their clients, by asking the app once more. */
export class Refresher {
  readonly #deps: RefresherDeps;
  /** By key: until when a refresh of it is under way, or not worth another try. */
  readonly #until = new BoundedMap<number>(REMEMBERED_BYTES);
  /** The keys whose handlers answered with a 304 that validated nothing. */
  readonly #unvalidatable = new BoundedMap<true>(REMEMBERED_BYTES);
  /** How often in a row each was refused by something above the cache. */
  readonly #refusals = new BoundedMap<number>(REMEMBERED_BYTES);

  constructor(deps: RefresherDeps) {
    this.#deps = deps;
  }

  isUnderWay(id: string): boolean {
    return (this.#until.get(id) ?? Number.NEGATIVE_INFINITY) > this.#deps.now();
  }

  /** A request with a client revalidates it: the others get the stale response for now, and the next refresh may succeed. */
  leaveToClient(id: string): void {
    this.#refusals.delete(id);
    this.#until.set(id, this.#deps.now() + AGAIN_MS);
  }

  /** The app that can be asked without a client; undefined on Connect and plain `node:http`, and after refusals. */
  rootAppOf(req: IncomingMessage, id: string): ReturnType<typeof rootAppOf> {
    return (this.#refusals.get(id) ?? 0) < MAX_REFUSALS ? rootAppOf(req) : undefined;
  }

  /** What a request is to refresh, where that is why it was made, for this URL: another rule may be known by now. */
  refreshOf(req: IncomingMessage, { exactId }: RequestKey): Refresh | undefined {
    const refresh = internalPurposeOf(req);
    if (!(refresh instanceof Refresh) || refresh.of !== this || refresh.key.exactId !== exactId)
      return undefined;
    refresh.wasReached = true;
    return refresh;
  }

  /** The handler of this id answered with a 304 of another response than the stored one, or of one that is not to be stored. */
  cannotValidate(id: string): void {
    this.#unvalidatable.set(id, true);
  }

  /** Whether the handler of this id can be asked to validate a stored response. */
  validates(id: string, { status, etag, lastModified }: CachedResponse): boolean {
    const hasValidator = status === 200 && (etag !== undefined || lastModified !== undefined);
    return hasValidator && this.#unvalidatable.get(id) !== true;
  }

  /** Asks the app again, once it is known that this process is to. Never rejects. */
  async refresh(
    app: NonNullable<ReturnType<typeof rootAppOf>>,
    stale: Stale,
    begin: () => Promise<Fill<CachedResponse> | undefined>,
  ): Promise<void> {
    const { req } = stale;
    const { id } = stale.key;
    this.#until.set(id, this.#deps.now() + LONGEST_REFRESH_MS);
    keepClientAddress(req);
    let isDone = false;
    try {
      const fill = await begin();
      if (fill !== undefined) isDone = await this.#runRefresh(app, stale, fill);
    } catch (error) {
      this.#deps.failed(error);
    }
    if (isDone) this.#until.delete(id);
    else this.#until.set(id, this.#deps.now() + AGAIN_MS);
  }

  /** Whether the handler has answered with something that was stored, or that is known not to be. */
  async #runRefresh(
    app: NonNullable<ReturnType<typeof rootAppOf>>,
    { req, key, entry }: Stale,
    fill: Fill<CachedResponse>,
  ): Promise<boolean> {
    const { id, url } = key;
    const validation = this.validates(id, entry.content) ? validationOf(entry) : undefined;
    const refresh = new Refresh(this, key, fill, validation);
    let status: number | undefined;
    try {
      const headers = refreshHeaders(req.headers, validation?.entry.content);
      status = await sendInternalRequest(app, {
        like: req,
        headers,
        purpose: refresh,
        timeoutMs: LONGEST_REFRESH_MS,
      });
      return fill.isOver;
    } finally {
      fill.abandon();
      if (refresh.wasReached) this.#refusals.delete(id);
      else this.#refused(id, url, status);
    }
  }

  #refused(id: string, url: string, status: number | undefined): void {
    // An app inside of another that changes its URLs is not what the client asked, and will not be the next time.
    const isElsewhere = status === undefined || status === NOT_FOUND;
    this.#refusals.set(id, isElsewhere ? MAX_REFUSALS : (this.#refusals.get(id) ?? 0) + 1);
    this.#deps.refused(url, status);
  }
}

/** As the client's, since what it was answered with was made for such a request, and with the validators of what is stale. */
function refreshHeaders(
  headers: IncomingHttpHeaders,
  stale: CachedResponse | undefined,
): IncomingHttpHeaders {
  const own = Object.entries(headers).filter(([name]) => !NOT_FOR_REFRESH.has(name));
  return {
    ...Object.fromEntries(own),
    ...(stale === undefined ? {} : validatingFields(stale)),
  };
}
