import express, { type RequestHandler } from 'express';
import type { IdempotencyOptions, RedisKit } from '../../src/index.ts';
import { type Answer, send, serve } from '../support/web.ts';

interface Order {
  readonly body?: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
  readonly path?: string;
  readonly method?: string;
}

/** A shop that accepts each order once and counts the runs of its handler. */
export interface Shop {
  readonly address: string;
  runs(): number;
  /** Sends an order with this Idempotency-Key header; without one if it is undefined. */
  order(key: string | undefined, order?: Order): Promise<Answer>;
}

export interface ShopOptions extends IdempotencyOptions {
  /** Middleware above kit.idempotency. */
  readonly above?: readonly RequestHandler[];
  readonly below?: readonly RequestHandler[];
}

/** Responds with a different number for each run. */
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

/** A promise that the test resolves. */
export function gate() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

/** A handler that responds when the test opens it. `begun` resolves when it starts. */
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
