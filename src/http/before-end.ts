import type { ServerResponse } from 'node:http';
import { sendUnavailable } from './problem.ts';
import { alsoTrue, applyHeaders, type Head, headOf, restoreHead } from './response-head.ts';

/** The order in which hooks run, whatever the order of the middleware that registered them. */
const PHASES = ['capture', 'session', 'idempotency', 'lock'] as const;

type Phase = (typeof PHASES)[number];

/**
 * What a room wants to do before a response is out. A hook that returns nothing costs the response no turn of the
 * event loop; one that returns a promise is waited for, so it must settle within the request's budget. One that
 * throws or rejects turns a response that has not begun into a 503.
 */
export interface ResponseHook {
  readonly phase: Phase;
  /** Each piece of the body, as the handler wrote it. */
  chunk?(chunk: Buffer): void;
  /** Before the headers leave, with the first write or the end. */
  beforeHeaders?(): undefined | Promise<void>;
  /** Before the last bytes leave. `hasBegun`: the headers left with an earlier write. */
  beforeEnd?(hasBegun: boolean): undefined | Promise<void>;
  /** No byte that would complete the response may leave before `beforeEnd` is through. */
  readonly withholdsLastBytes?: boolean;
  /** The connection closed and `end()` was not called; it still may be. */
  closedEarly?(): void;
}

const guards = new WeakMap<ServerResponse, ResponseGuard>();

/** Registers a hook. A response is wrapped once, however many hooks it gets. */
export function beforeEnd(res: ServerResponse, hook: ResponseHook): void {
  let guard = guards.get(res);
  if (guard === undefined) {
    guard = new ResponseGuard(res);
    guards.set(res, guard);
  }
  guard.add(hook);
}

type Chunk = string | Uint8Array;
type Done = (error?: Error | null) => void;

interface Write {
  readonly chunk: Chunk;
  readonly encoding: BufferEncoding | undefined;
  readonly done: Done | undefined;
  /** With this write the client has everything that the headers promised. */
  readonly completes: boolean;
}

interface Step {
  readonly phase: Phase;
  run(): undefined | Promise<void>;
}

/**
 * `open`: nothing has left. `holding`: the first write waits for the hooks. `streaming`: the headers are out.
 * `withheld`: only the completing bytes are missing. `passing`: the hooks are through, calls go to Node.
 */
type Stage = 'open' | 'holding' | 'streaming' | 'withheld' | 'passing';

class ResponseGuard {
  readonly #res: ServerResponse;
  readonly #original: Pick<ServerResponse, 'write' | 'end' | 'writeHead' | 'flushHeaders'>;
  readonly #outer: Head;
  readonly #hooks: ResponseHook[] = [];
  readonly #held: Write[] = [];
  #stage: Stage = 'open';
  #headRequested = false;
  #flushRequested = false;
  #owesDrain = false;
  #written = 0;
  #ending: readonly unknown[] | undefined;
  #failed: Phase | undefined;

  constructor(res: ServerResponse) {
    this.#res = res;
    this.#original = {
      write: res.write,
      end: res.end,
      writeHead: res.writeHead,
      flushHeaders: res.flushHeaders,
    };
    this.#outer = headOf(res);
    res.write = ((...args: unknown[]) => this.#write(args)) as typeof res.write;
    res.end = ((...args: unknown[]) => this.#end(args)) as typeof res.end;
    res.writeHead = ((...args: unknown[]) => this.#writeHead(args)) as typeof res.writeHead;
    res.flushHeaders = () => this.#flushHeaders();
    // What Node would say once these calls had reached it.
    alsoTrue(
      res,
      'headersSent',
      () => this.#headRequested || this.#stage !== 'open' || this.#ending !== undefined,
    );
    alsoTrue(res, 'writableEnded', () => this.#ending !== undefined);
    res.once('close', () => {
      if (this.#ending === undefined) for (const hook of this.#hooks) hook.closedEarly?.();
    });
  }

  add(hook: ResponseHook): void {
    this.#hooks.push(hook);
    this.#hooks.sort((a, b) => PHASES.indexOf(a.phase) - PHASES.indexOf(b.phase));
  }

  #writeHead(args: unknown[]): ServerResponse {
    const { writeHead } = this.#original;
    if (this.#stage !== 'open') return writeHead.apply(this.#res, args as Parameters<typeof writeHead>);
    // The head waits for the hooks, as the body does: until they are through it may still become a 503.
    const [status, second, third] = args;
    this.#res.statusCode = Number(status);
    if (typeof second === 'string') this.#res.statusMessage = second;
    applyHeaders(this.#res, typeof second === 'string' ? third : second);
    this.#headRequested = true;
    return this.#res;
  }

  #flushHeaders(): void {
    this.#flushRequested = true;
    if (this.#stage === 'open' && !this.#mustWithhold()) this.#begin();
    else if (this.#stage === 'passing' || this.#stage === 'streaming')
      this.#original.flushHeaders.call(this.#res);
  }

  #write(args: unknown[]): boolean {
    const { write } = this.#original;
    // A wrong type is Node's to refuse, and now, while the handler can still hear it.
    if (this.#stage === 'passing' || !isChunk(args[0])) {
      return write.apply(this.#res, args as Parameters<typeof write>);
    }
    if (this.#ending !== undefined) return false;
    const call = this.#record(args[0], args);
    if (this.#stage === 'open') this.#begin();
    if (this.#stage === 'streaming' && call.completes && this.#mustWithhold()) this.#stage = 'withheld';
    if (this.#stage === 'streaming') return write.apply(this.#res, args as Parameters<typeof write>);
    this.#held.push(call);
    if (this.#stage === 'holding' && !call.completes) {
      this.#owesDrain = true;
      return false;
    }
    // A writer that waits to be called back before it ends would otherwise wait for itself.
    if (call.done !== undefined) process.nextTick(call.done);
    return true;
  }

  #record(chunk: Chunk, args: readonly unknown[]): Write {
    const encoding = typeof args[1] === 'string' ? (args[1] as BufferEncoding) : undefined;
    this.#tap(chunk, encoding);
    this.#written += typeof chunk === 'string' ? Buffer.byteLength(chunk, encoding) : chunk.byteLength;
    const declared = this.#res.getHeader('content-length');
    const completes = this.#isBodyless() || (declared !== undefined && this.#written >= Number(declared));
    const done = args.findLast((arg) => typeof arg === 'function') as Done | undefined;
    return { chunk, encoding, done, completes: completes && this.#mustWithhold() };
  }

  #end(args: unknown[]): ServerResponse {
    const { end } = this.#original;
    const [chunk] = args;
    const isEmpty = chunk === undefined || chunk === null || typeof chunk === 'function';
    if (this.#stage === 'passing' || !(isEmpty || isChunk(chunk))) {
      return end.apply(this.#res, args as Parameters<typeof end>);
    }
    if (this.#ending !== undefined) return this.#res;
    if (isChunk(chunk))
      this.#tap(chunk, typeof args[1] === 'string' ? (args[1] as BufferEncoding) : undefined);
    this.#ending = args;
    if (this.#stage !== 'holding') this.#finish();
    return this.#res;
  }

  #tap(chunk: Chunk, encoding: BufferEncoding | undefined): void {
    for (const hook of this.#hooks) {
      hook.chunk?.(typeof chunk === 'string' ? Buffer.from(chunk, encoding) : Buffer.from(chunk));
    }
  }

  /** The headers are about to leave with a body that goes on. */
  #begin(): void {
    const wait = this.#run(
      this.#hooks.map((hook) => ({ phase: hook.phase, run: () => hook.beforeHeaders?.() })),
    );
    if (wait === undefined) {
      this.#stream();
      return;
    }
    this.#stage = 'holding';
    void wait.then(() => this.#stream());
  }

  #stream(): void {
    if (this.#failed === undefined) this.#attempt(() => this.#letGo());
    else this.#ending ??= [];
    if (this.#ending !== undefined) this.#finish();
  }

  #letGo(): void {
    this.#stage = 'streaming';
    if (this.#flushRequested) this.#original.flushHeaders.call(this.#res);
    const hasRoom = this.#release();
    if (this.#held.length > 0) this.#stage = 'withheld';
    // Otherwise the socket is full, and Node says when it is not.
    if (this.#owesDrain && hasRoom && this.#ending === undefined) this.#res.emit('drain');
    this.#owesDrain = false;
  }

  /** Writes what was held back, up to bytes that must wait for the end; answers whether there is room for more. */
  #release(): boolean {
    let hasRoom = true;
    for (let call = this.#held[0]; call !== undefined; call = this.#held[0]) {
      if (call.completes && this.#stage !== 'passing') break;
      this.#held.shift();
      const { chunk, encoding, done } = call;
      hasRoom = this.#original.write.call(
        this.#res,
        chunk,
        encoding ?? 'utf8',
        call.completes ? undefined : done,
      );
    }
    return hasRoom;
  }

  /** `end()` was called: runs the hooks and then lets the response go. */
  #finish(): void {
    const hasBegun = this.#hasBegun();
    const steps = this.#hooks.flatMap((hook) => [
      {
        phase: hook.phase,
        run: () => (hasBegun || this.#failed !== undefined ? undefined : hook.beforeHeaders?.()),
      },
      { phase: hook.phase, run: () => hook.beforeEnd?.(hasBegun) },
    ]);
    const wait = this.#run(steps);
    if (wait === undefined) {
      this.#complete();
      return;
    }
    // A handler that goes on after `end()` must not change what it has sent.
    const sent = hasBegun ? undefined : headOf(this.#res);
    void wait.then(() => {
      if (sent !== undefined) restoreHead(this.#res, sent);
      this.#complete();
    });
  }

  #hasBegun(): boolean {
    return this.#stage === 'streaming' || this.#stage === 'withheld';
  }

  #complete(): void {
    const hasBegun = this.#hasBegun();
    this.#stage = 'passing';
    this.#attempt(() => {
      if (this.#failed !== undefined && !hasBegun) {
        this.#held.length = 0;
        restoreHead(this.#res, this.#outer);
        sendUnavailable(this.#res, this.#failed);
        return;
      }
      this.#release();
      this.#original.end.apply(this.#res, (this.#ending ?? []) as Parameters<ServerResponse['end']>);
    });
  }

  /** Node judges statuses and headers when they leave; by then the handler may be gone and cannot be told. */
  #attempt(send: () => void): void {
    try {
      send();
    } catch (error) {
      this.#stage = 'passing';
      this.#res.destroy(error instanceof Error ? error : undefined);
    }
  }

  /**
   * Runs the steps in order; a promise only where a step waits. A room tells of its failure itself; here it only
   * means that what depended on it is not sent.
   */
  #run(steps: readonly Step[], from = 0): Promise<void> | undefined {
    for (let index = from; index < steps.length; index++) {
      const step = steps[index];
      try {
        const wait = step?.run();
        if (wait === undefined) continue;
        const failed = () => {
          this.#failed ??= step?.phase;
        };
        return wait.catch(failed).then(() => this.#run(steps, index + 1));
      } catch {
        this.#failed ??= step?.phase;
      }
    }
    return undefined;
  }

  #mustWithhold(): boolean {
    return this.#hooks.some((hook) => hook.withholdsLastBytes === true);
  }

  /** The headers are the whole response (RFC 9110, sections 9.3.2, 15.3.5 and 15.4.5). */
  #isBodyless(): boolean {
    const { req, statusCode } = this.#res;
    return req.method === 'HEAD' || statusCode === 204 || statusCode === 304;
  }
}

function isChunk(value: unknown): value is Chunk {
  return typeof value === 'string' || value instanceof Uint8Array;
}
