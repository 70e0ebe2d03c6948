import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { BoundedMap } from '../base/bounded-map.ts';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import type { Reporter } from '../base/reporter.ts';
import { OuterHead } from './outer-head.ts';
import { runInTurnBatch } from './turn-batch.ts';

const KEYS: unique symbol = Symbol('the keys of a request that passed the front');

/** An answer of a cache or a limiter that this process knows, and that can be sent before the app runs. */
export interface FrontAnswer {
  /** Two answers with an equal source and id answer alike. */
  readonly source: object;
  readonly id: string;
  /** Answers a request, with the outer head beside its own fields. Returns false to leave the request to the app. */
  send(req: IncomingMessage, res: ServerResponse, outer: OuterHead): boolean;
}

/** The part of a request that selects an answer: the whole URL for a stored response, the path for a refusal. */
export type FrontSubject = 'url' | 'path';

interface FrontRoute {
  readonly answer: FrontAnswer;
  readonly outer: OuterHead;
  /** When the app last answered with this outer head as it had before; undefined after the first time. */
  confirmedAt: number | undefined;
}

type FrontedRequest = IncomingMessage & { [KEYS]?: Readonly<Record<FrontSubject, string>> };

/** The most bytes for routes. The least recently used is forgotten, and learned again from the next answers of the app. */
const ROUTE_BYTES = 8 * 2 ** 20;

/** How long the front answers by itself, until the app must show again that its outer head is the same. */
const CONFIRMED_MS = 1_000;

/**
 * Answers requests before the app runs. Middleware of the kit reports what it answers through the app, and the front
 * repeats such an answer once the app has sent it twice in a row with the same outer head: the header fields that
 * middleware above sets.
 */
export class Front {
  readonly #reporter: Reporter;
  readonly #now: () => number;
  readonly #routes = new BoundedMap<FrontRoute>(ROUTE_BYTES, ({ outer }) => outer.bytes);

  constructor(reporter: Reporter, now: () => number) {
    this.#reporter = reporter;
    this.#now = now;
  }

  /** Wraps an app, so that what is known is answered before the app runs. */
  listener(app: (req: never, res: never) => unknown): RequestListener {
    if (typeof app !== 'function') {
      throw new ConfigError(
        `kit.front was given ${describe(app)}; give it the app: http.createServer(kit.front(app))`,
      );
    }
    const run = app as RequestListener;
    return (req, res) => {
      const keys = keysOf(req);
      (req as FrontedRequest)[KEYS] = keys;
      const routes = [this.#routeFor(keys.url, req), this.#routeFor(keys.path, req)];
      // The app runs at once, since its commands would leave one turn later.
      if (routes.every((route) => route === undefined)) run(req, res);
      else {
        runInTurnBatch({ req, res }, () => {
          if (!routes.some((route) => route?.answer.send(req, res, route.outer))) run(req, res);
        });
      }
    };
  }

  /** To be called before middleware of the kit answers through the app what the front may answer from then on. */
  learn(req: FrontedRequest, res: ServerResponse, subject: FrontSubject, answer: FrontAnswer): void {
    const key = req[KEYS]?.[subject];
    if (key === undefined) return;
    const outer = OuterHead.of(req, res);
    if (typeof outer === 'string') {
      this.#routes.delete(key);
      this.#reporter.warning(`kit.front leaves requests to the app, since ${outer}`);
      return;
    }
    const known = this.#routes.peek(key);
    const { source, id } = answer;
    const isSame = known?.answer.source === source && known.answer.id === id && known.outer.equals(outer);
    if (isSame) known.confirmedAt = this.#now();
    else this.#routes.set(key, { answer, outer, confirmedAt: undefined });
  }

  /** The route of a key, if the app has confirmed it lately. */
  #routeFor(key: string, req: IncomingMessage): FrontRoute | undefined {
    const route = this.#routes.get(key);
    if (route?.confirmedAt === undefined || this.#now() - route.confirmedAt >= CONFIRMED_MS) return undefined;
    return route.outer.isFor(req) ? route : undefined;
  }
}

/**
 * The keys of a request as it arrives. They contain all that selects an answer: what a proxy forwards matters together
 * with the address of the proxy, which the app may trust or not.
 */
function keysOf({ method = '', url = '', headers, socket }: IncomingMessage): Record<FrontSubject, string> {
  const { 'x-forwarded-host': host, 'x-forwarded-proto': proto } = headers;
  const isForwarded = host !== undefined || proto !== undefined;
  const forwarded = isForwarded ? JSON.stringify([socket.remoteAddress, host, proto]) : '';
  const rest = `${method} ${headers.host ?? ''}${forwarded} `;
  const query = url.indexOf('?');
  return { url: `url ${rest}${url}`, path: `path ${rest}${query === -1 ? url : url.slice(0, query)}` };
}
