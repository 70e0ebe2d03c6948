import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { BoundedMap } from '../base/bounded-map.ts';
import { appOf, noteClient, reenter, reentryOf } from '../http/reentry.ts';
import type { CachedResponse } from './cached-response.ts';
import type { Entry } from './entry.ts';
import type { Fill } from './fill.ts';

/** How long nobody in this process tries to refresh again what somebody else does, or what could not be. */
const AGAIN_MS = 1_000;
const LONGEST_REFRESH_MS = 60_000;
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
  readonly id: string;
  readonly fill: Fill<CachedResponse>;
  /** The stale response that the handler is asked to confirm. */
  readonly confirms: Entry<CachedResponse> | undefined;

  constructor(
    of: Refresher,
    id: string,
    fill: Fill<CachedResponse>,
    confirms: Entry<CachedResponse> | undefined,
  ) {
    this.of = of;
    this.id = id;
    this.fill = fill;
    this.confirms = confirms;
  }
}

/** Has stale responses made anew behind their clients, by asking the app once more. */
export class Refresher {
  readonly #now: () => number;
  readonly #failed: (error: unknown) => void;
  /** By key: until when a refresh of it is under way, or not worth another try. */
  readonly #until = new BoundedMap<number>(REMEMBERED_BYTES);
  /** The 304 of these handlers spoke of another response than the stored one. */
  readonly #unconfirmable = new BoundedMap<true>(REMEMBERED_BYTES);
  #canReenter = true;

  constructor(now: () => number, failed: (error: unknown) => void) {
    this.#now = now;
    this.#failed = failed;
  }

  isUnderWay(id: string): boolean {
    return (this.#until.get(id) ?? Number.NEGATIVE_INFINITY) > this.#now();
  }

  /** A request does it that has a client: the others get what is stale for now. */
  leaveToClient(id: string): void {
    this.#until.set(id, this.#now() + AGAIN_MS);
  }

  /** The app that can be asked without a client; undefined on Connect and plain `node:http`. */
  appOf(req: IncomingMessage): ReturnType<typeof appOf> {
    return this.#canReenter ? appOf(req) : undefined;
  }

  /** What a request is to refresh, where that is why it was made, for this id. */
  refreshOf(req: IncomingMessage, id: string): Refresh | undefined {
    const refresh = reentryOf(req);
    if (!(refresh instanceof Refresh) || refresh.of !== this || refresh.id !== id) return undefined;
    refresh.wasReached = true;
    return refresh;
  }

  cannotConfirm(id: string): void {
    this.#unconfirmable.set(id, true);
  }

  /** Asks the app again, once it is known that this process is to. Never rejects. */
  async refresh(
    app: NonNullable<ReturnType<typeof appOf>>,
    like: IncomingMessage,
    id: string,
    entry: Entry<CachedResponse>,
    begin: () => Promise<Fill<CachedResponse> | undefined>,
  ): Promise<void> {
    this.#until.set(id, this.#now() + LONGEST_REFRESH_MS);
    noteClient(like);
    let isDone = false;
    try {
      const fill = await begin();
      if (fill !== undefined) {
        const confirms =
          this.#unconfirmable.get(id) === true || !hasValidator(entry.content) ? undefined : entry;
        const refresh = new Refresh(this, id, fill, confirms);
        const headers = refreshHeaders(like.headers, confirms?.content);
        try {
          await reenter(app, like, headers, refresh, LONGEST_REFRESH_MS);
        } finally {
          // An app inside of another that changes its URLs is not what the client asked.
          if (!refresh.wasReached) this.#canReenter = false;
          isDone = fill.isOver;
          fill.abandon();
        }
      }
    } catch (error) {
      this.#failed(error);
    }
    if (isDone) this.#until.delete(id);
    else this.#until.set(id, this.#now() + AGAIN_MS);
  }
}

function hasValidator({ status, etag, lastModified }: CachedResponse): boolean {
  return status === 200 && (etag !== undefined || lastModified !== undefined);
}

/** As the client's, since what it was answered with was made for such a request, and with the validators of what is stale. */
function refreshHeaders(
  headers: IncomingHttpHeaders,
  stale: CachedResponse | undefined,
): IncomingHttpHeaders {
  const own = Object.entries(headers).filter(([name]) => !NOT_FOR_REFRESH.has(name));
  return {
    ...Object.fromEntries(own),
    ...(stale?.etag === undefined ? {} : { 'if-none-match': stale.etag }),
    ...(stale?.lastModified === undefined ? {} : { 'if-modified-since': stale.lastModified }),
  };
}
