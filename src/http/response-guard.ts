import type { ServerResponse } from 'node:http';
import { asError } from '../base/errors.ts';
import { isClosed } from './closing.ts';
import { type Call, type Chunk, callOf, type Done, HeldWrites, isChunk } from './held-writes.ts';
import {
  alsoTrue,
  applyHead,
  assertStatus,
  type Head,
  headOf,
  isBodyless,
  nativeFlag,
  outerHeadOf,
  restoreHead,
} from './response-head.ts';
import { type Replacement, type ResponseHook, ResponseHooks } from './response-hooks.ts';

/**
 * `open`: nothing has left. `holding`: the first write waits for the hooks. `streaming`: writes go to Node.
 * `withheld`: only the completing bytes are missing. `replaced`: a hook failed or answers itself, which waits for the handler's
 * end. `passing`: the hooks are through and calls go to Node. `done`: the end went to Node.
 */
type Stage = 'open' | 'holding' | 'streaming' | 'withheld' | 'replaced' | 'passing' | 'done';

/** What stands between a handler and its response, so that the hooks run before anything leaves. */
export class ResponseGuard {
  readonly #res: ServerResponse;
  readonly #original: Pick<ServerResponse, 'write' | 'end' | 'writeHead' | 'flushHeaders'>;
  readonly #outer: Head;
  readonly #hooks = new ResponseHooks();
  readonly #held = new HeldWrites();
  #stage: Stage = 'open';
  /** What the handler had set when it began or ended the response; what it changes later comes too late. */
  #head: Head | undefined;
  #headRequested = false;
  #flushRequested = false;
  #owesDrain = false;
  #written = 0;
  #ending: readonly unknown[] | undefined;
  /** Once ours say more: Node's own word on whether the head was sent. */
  #nativeHeadSent: (() => boolean) | undefined;
  #listensForClose = false;

  constructor(res: ServerResponse) {
    const { write, end, writeHead, flushHeaders } = res;
    this.#res = res;
    this.#original = { write, end, writeHead, flushHeaders };
    this.#outer = outerHeadOf(res);
    if (res.writableEnded) {
      this.#stage = 'done';
      this.#ending = [];
    } else if (res.headersSent) this.#stage = 'streaming';
  }

  add(hook: ResponseHook): void {
    if (this.#ending === undefined) this.#hooks.add(hook);
    // A handler that goes on after the end: nothing waits for this hook, but what it holds must be given back.
    else void new ResponseHooks(hook).beforeEnd(true);
    if (hook.closedEarly === undefined || this.#ending !== undefined) return;
    if (isClosed(this.#res)) {
      hook.closedEarly();
      return;
    }
    if (this.#listensForClose) return;
    this.#listensForClose = true;
    this.#res.once('close', () => {
      if (this.#ending === undefined) this.#hooks.closedEarly();
    });
  }

  writeHead(args: unknown[]): ServerResponse {
    const { writeHead } = this.#original;
    if (this.#isNodes()) return writeHead.apply(this.#res, args as Parameters<typeof writeHead>);
    if (this.#stage !== 'open' || this.#ending !== undefined) return this.#res;
    // The head waits for the hooks, as the body does: until they are through it may still become a 503.
    applyHead(this.#res, args);
    this.#headRequested = true;
    this.#claim();
    return this.#res;
  }

  flushHeaders(): void {
    this.#flushRequested = true;
    if (this.#isNodes()) {
      this.#original.flushHeaders.call(this.#res);
      return;
    }
    this.#claim();
    if (this.#stage === 'open' && this.#ending === undefined && !this.#headCompletes()) this.#begin();
  }

  write(args: unknown[]): boolean {
    const { write } = this.#original;
    const call = callOf(args);
    // A wrong type is Node's to refuse, and now, while the handler can still hear it.
    if (this.#stage === 'passing' || !isChunk(call.chunk)) {
      return write.apply(this.#res, args as Parameters<typeof write>);
    }
    if (this.#ending !== undefined) return this.#ignore(call);
    if (this.#stage === 'open') assertStatus(this.#res.statusCode);
    const completes = this.#hear({ ...call, chunk: call.chunk });
    if (this.#stage === 'open') this.#begin();
    if (this.#stage === 'replaced' || this.#ending !== undefined) return this.#ignore(call);
    if (this.#stage === 'streaming' && completes) {
      this.#stage = 'withheld';
      this.#claim();
    }
    if (this.#stage === 'streaming') return write.apply(this.#res, args as Parameters<typeof write>);
    const held = { ...call, chunk: call.chunk, completes: completes || this.#stage === 'withheld' };
    const mayGoOn = this.#held.hold(held, this.#res.writableHighWaterMark);
    this.#owesDrain ||= !mayGoOn;
    return mayGoOn;
  }

  end(args: unknown[]): ServerResponse {
    const { end } = this.#original;
    const call = callOf(args);
    // What Node takes for no chunk at all.
    const isEmpty = !call.chunk;
    if (this.#stage === 'passing' || !(isEmpty || isChunk(call.chunk))) {
      return end.apply(this.#res, args as Parameters<typeof end>);
    }
    if (this.#ending !== undefined) {
      this.#whenFinished(call.done);
      return this.#res;
    }
    if (!this.#isHeadSent()) assertStatus(this.#res.statusCode);
    if (isChunk(call.chunk)) this.#hooks.hear(call.chunk, call.encoding);
    this.#ending = args;
    if (this.#stage !== 'holding') this.#finish();
    return this.#res;
  }

  /** Lets the hooks hear a chunk; answers whether it is the last that the headers promise and must be withheld. */
  #hear({ chunk, encoding }: Call & { readonly chunk: Chunk }): boolean {
    this.#hooks.hear(chunk, encoding);
    this.#written += typeof chunk === 'string' ? Buffer.byteLength(chunk, encoding) : chunk.byteLength;
    const declared = this.#res.getHeader('content-length');
    const isLast = isBodyless(this.#res) || (declared !== undefined && this.#written >= Number(declared));
    return isLast && this.#hooks.withholdLastBytes;
  }

  /** The headers are about to leave with a body that goes on. */
  #begin(): void {
    const wait = this.#hooks.beforeHeaders();
    if (wait === undefined) {
      this.#letGo();
      return;
    }
    this.#stage = 'holding';
    this.#claim();
    this.#head = headOf(this.#res);
    this.#after(wait, () => this.#letGo());
  }

  #letGo(): void {
    if (this.#hooks.hasFailed) this.#refuse();
    else if (this.#ending !== undefined) this.#finish();
    else if (this.#hooks.instead() !== undefined) this.#replace();
    else this.#stream();
  }

  #stream(): void {
    if (this.#head !== undefined) restoreHead(this.#res, this.#head);
    this.#stage = 'streaming';
    if (this.#flushRequested && !this.#headCompletes()) this.#original.flushHeaders.call(this.#res);
    const hasRoom = this.#release(false);
    if (!this.#held.isEmpty) this.#stage = 'withheld';
    // Otherwise the socket is full, and Node says when it is not.
    if (hasRoom) this.#payDrain();
  }

  /** The handler writes on into the void. A lock must last until it is done, so the 503 then waits for its end. */
  #refuse(): void {
    this.#replace();
    if (!this.#hooks.withholdLastBytes) this.#ending ??= [];
    if (this.#ending !== undefined) this.#finish();
  }

  /** The handler is heard to its end, and then answered for. */
  #replace(): void {
    this.#stage = 'replaced';
    this.#claim();
    this.#held.drop();
    this.#payDrain();
  }

  #release(all: boolean): boolean {
    return this.#held.release(all, ({ chunk, encoding = 'utf8', done }) =>
      this.#original.write.call(this.#res, chunk, encoding, done),
    );
  }

  /** `end()` was called: runs the hooks and then lets the response go. */
  #finish(): void {
    const hasBegun = this.#isHeadSent();
    const wait = this.#hooks.beforeEnd(hasBegun);
    if (wait === undefined) {
      this.#complete();
      return;
    }
    this.#claim();
    if (!hasBegun) this.#head ??= headOf(this.#res);
    this.#after(wait, () => this.#complete());
  }

  #complete(): void {
    const args = this.#ending ?? [];
    const isHeadSent = this.#isHeadSent();
    this.#stage = 'passing';
    try {
      if (!isHeadSent && this.#head !== undefined) restoreHead(this.#res, this.#head);
      const instead = isHeadSent ? undefined : this.#hooks.instead();
      if (instead !== undefined) this.#sendInstead(instead, callOf(args));
      else {
        this.#release(true);
        this.#original.end.apply(this.#res, args as Parameters<ServerResponse['end']>);
      }
    } catch (error) {
      // The hooks are through; a handler that hears of it may still answer something else.
      this.#ending = undefined;
      throw error;
    }
    this.#stage = 'done';
  }

  /** Past all that was wrapped around us since: a compression in there believes that it has ended. */
  #sendInstead(replacement: Replacement, { done }: Call): void {
    const { write, end, writeHead, flushHeaders } = this.#res;
    this.#held.drop();
    Object.assign(this.#res, this.#original);
    try {
      replacement(this.#res, () => restoreHead(this.#res, this.#outer));
    } finally {
      Object.assign(this.#res, { write, end, writeHead, flushHeaders });
    }
    this.#whenFinished(done);
  }

  #after(wait: Promise<void>, go: () => void): void {
    wait.then(go).catch((error: unknown) => {
      // Nobody is there to be told any more: the server's 'clientError' is.
      if (this.#stage === 'passing') {
        this.#stage = 'done';
        this.#ending ??= [];
      }
      this.#res.destroy(asError(error));
    });
  }

  #payDrain(): void {
    if (this.#owesDrain) process.nextTick(() => this.#res.emit('drain'));
    this.#owesDrain = false;
  }

  /** A write that comes after the end. Where the end was ours, the handler did nothing wrong and must not wait. */
  #ignore({ done }: Call): boolean {
    const isOurs = this.#hooks.hasFailed || (this.#stage === 'replaced' && this.#ending === undefined);
    const error = isOurs
      ? null
      : Object.assign(new Error('write after end'), { code: 'ERR_STREAM_WRITE_AFTER_END' });
    if (done !== undefined) process.nextTick(done, error);
    return isOurs;
  }

  #whenFinished(done: Done | undefined): void {
    if (done === undefined) return;
    if (this.#res.writableFinished) process.nextTick(done);
    else this.#res.once('finish', done);
  }

  /** From now on calls wait that Node would have taken: the response must not say that they were never made. */
  #claim(): void {
    if (this.#nativeHeadSent !== undefined) return;
    this.#nativeHeadSent = nativeFlag(this.#res, 'headersSent');
    alsoTrue(this.#res, 'headersSent', () => this.#isHeadDecided());
    alsoTrue(this.#res, 'writableEnded', () => this.#ending !== undefined);
  }

  /** What Node would say once the handler's calls had reached it. */
  #isHeadDecided(): boolean {
    if (this.#isNodes()) return false;
    return (
      this.#stage !== 'open' || this.#headRequested || this.#flushRequested || this.#ending !== undefined
    );
  }

  #isHeadSent(): boolean {
    return this.#nativeHeadSent === undefined ? this.#res.headersSent : this.#nativeHeadSent();
  }

  #isNodes(): boolean {
    return this.#stage === 'streaming' || this.#stage === 'passing' || this.#stage === 'done';
  }

  #headCompletes(): boolean {
    const hasNoBody = isBodyless(this.#res) || Number(this.#res.getHeader('content-length') ?? 1) === 0;
    return hasNoBody && this.#hooks.withholdLastBytes;
  }
}
