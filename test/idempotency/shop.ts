import express, { type RequestHandler } from 'express';
import type { IdempotencyOptions, RedisKit } from '../../src/index.ts';
import { type Answer, send, serve } from '../support/web.ts';

interface Order {
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly path?: string;
  readonly method?: string;
}

/** A shop that takes orders, each once, and how often its handler ran. */
export interface Shop {
  readonly address: string;
  runs(): number;
  /** Orders under a key, as it stands in the header; without one where it is undefined. */
  order(key: string | undefined, order?: Order): Promise<Answer>;
}

export interface ShopOptions extends IdempotencyOptions {
  /** What stands above the middleware, for each request. */
  readonly above?: readonly RequestHandler[];
  readonly below?: readonly RequestHandler[];
}

/** Answers with a number of its own for each run. */
export function numbered(): RequestHandler {
  let run = 0;
  return (req, res) => void res.status(201).json({ run: ++run, ...req.idempotency });
}

export async function shop(
  kit: Pick<RedisKit, 'idempotency'>,
  { above = [], below = [], ...options }: ShopOptions = {},
  handler: RequestHandler = numbered(),
): Promise<Shop> {
  let runs = 0;
  const app = express().set('env', 'test').disable('x-powered-by');
  app.use(express.json(), ...above);
  app.use(kit.idempotency({ scope: () => 'everybody', ...options }), ...below);
  app.use((req, res, next) => {
    runs++;
    return handler(req, res, next);
  });
  const address = await serve(app);
  return {
    address,
    runs: () => runs,
    order: (key, { body = '{"item":"tea"}', headers = {}, path = '/orders', method = 'POST' } = {}) =>
      send(address + path, {
        method,
        body,
        headers: {
          'Content-Type': 'application/json',
          ...(key === undefined ? {} : { 'Idempotency-Key': key }),
          ...headers,
        },
      }),
  };
}

/** Something that a handler waits for until the test opens it. */
export function gate() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

/** A handler that answers only when it is let, and says when it has begun. */
export function gated() {
  const { opened, open } = gate();
  const begun = gate();
  const handler: RequestHandler = async (req, res) => {
    begun.open();
    await opened;
    res.status(201).json({ attempt: req.idempotency?.attempt });
  };
  return { handler, open, begun: begun.opened };
}
