import { get } from 'node:http';
import express, { type RequestHandler } from 'express';
import type { ConcurrencyOptions, RedisKit } from '../../src/index.ts';
import { until } from '../support/until.ts';
import { type Answer, send, serve } from '../support/web.ts';

/** A site whose handlers run until the test ends them. */
export interface Busy {
  readonly address: string;
  /** The paths of the running requests, in the order in which they began. */
  readonly running: readonly string[];
  /** The paths of all requests that began. */
  readonly begun: readonly string[];
  ask(path: string, headers?: Readonly<Record<string, string>>): Promise<Answer>;
  /** Sends a request, and resolves once its handler runs. */
  run(
    path: string,
    headers?: Readonly<Record<string, string>>,
  ): Promise<{ readonly answer: Promise<Answer> }>;
  /**
   * Sends a request. Resolves to the status if refused, to `'runs'` when the handler runs, or after `ms` to `'waits'`.
   */
  attempt(path: string, ms?: number): Promise<number | 'runs' | 'waits'>;
  /** Sends a request, and disconnects while the handler runs. */
  leave(path: string): Promise<void>;
  /** Ends the handler of this path, or all handlers. */
  end(path?: string): void;
}

export async function busySite(
  kit: RedisKit,
  options: Partial<ConcurrencyOptions>,
  handler?: RequestHandler,
): Promise<Busy> {
  const ends = new Map<string, () => void>();
  const begun: string[] = [];
  const closed: string[] = [];
  const app = express().set('env', 'test');
  app.use(kit.concurrency({ key: () => 'ann', limit: 1, ...options }));
  app.use((req, res, next): unknown => {
    begun.push(req.path);
    res.on('close', () => closed.push(req.path));
    if (handler !== undefined) return handler(req, res, next);
    ends.set(req.path, () => {
      ends.delete(req.path);
      res.send(req.path);
    });
    return undefined;
  });
  const address = await serve(app);
  const ask: Busy['ask'] = (path, headers = {}) => send(address + path, { headers });
  return {
    address,
    begun,
    ask,
    get running() {
      return [...ends.keys()];
    },
    async run(path, headers) {
      const answer = ask(path, headers);
      answer.catch(() => undefined);
      await until(`${path} runs`, () => begun.includes(path));
      return { answer };
    },
    async attempt(path, ms = Number.POSITIVE_INFINITY) {
      const giveUpAt = performance.now() + ms;
      const count = begun.length;
      let refusal: number | undefined;
      void ask(path).then(
        ({ status }) => {
          refusal = status;
        },
        () => undefined,
      );
      await until(
        `${path} runs or is refused`,
        () => refusal !== undefined || begun.length > count || performance.now() > giveUpAt,
      );
      return begun.length > count ? 'runs' : (refusal ?? 'waits');
    },
    async leave(path) {
      const client = get(address + path, { agent: false }).on('error', () => undefined);
      await until(`${path} runs`, () => begun.includes(path));
      client.destroy();
      await until(`${path} has lost its client`, () => closed.includes(path));
    },
    end(path) {
      if (path !== undefined) ends.get(path)?.();
      else for (const each of [...ends.values()]) each();
    },
  };
}
