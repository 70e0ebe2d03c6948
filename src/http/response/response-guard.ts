import type { ServerResponse } from 'node:http';
import { asError } from '../../base/errors.ts';
import { BufferedWrites, type Call, type Chunk, callOf, type Done, isChunk } from './buffered-writes.ts';
import { isClosed } from './close-signal.ts';
import { OutgoingHead } from './outgoing-head.ts';
import { PrematureEnd } from './premature-end.ts';
import { assertStatus, type Head, headOf, isBodyless, outerHeadOf, restoreHead } from './response-head.ts';
import { type Replacement, type ResponseHook, ResponseHooks } from './response-hooks.ts';

/**
 * `open`: nothing has left. `holding`: the first write waits for the hooks. `streaming`: writes go to Node.
 * `withheld`: only the completing bytes are missing. `replaced`: a hook failed or answers itself, which waits for the handler's
 * end. `passing`: the hooks are through and calls go to Node. `done`: the end went to Node.
 */
type Stage = 'open' | 'holding' | 'streaming' | 'withheld' | 'replaced' | 'passing' | 'done';

type Methods = Pick<ServerResponse, 'write' | 'end' | 'writeHead' | 'flushHeaders'>;

/** What stands between a handler and its response, so that the hooks run before anything leaves. */
export class ResponseGuard {
  readonly #res: ServerResponse;
  readonly #original: Pick<Methods, 'write' | 'end' | 'flushHeaders'>;
  readonly #guarded: Readonly<Record<keyof Methods, unknown>>;
  readonly #outer: Head;
  readonly #hooks = new ResponseHooks();
  readonly outgoing: OutgoingHead;
  readonly #held = new BufferedWrites();
  #stage: Stage = 'open';
  /** What the handler had set when it began or ended the response; what it changes later comes too late. */
  #head: Head | undefined;
  #flushRequested = false;
  #written = 0;
  #ending: readonly unknown[] | undefined;
  readonly #prematureEnd: PrematureEnd;

  /** Puts the guarded methods in the place of the response's own. */
  constructor(res: ServerResponse, guarded: Readonly<Record<keyof Methods, unknown>>) {
    const { write, end, flushHeaders } = res;
    this.#res = res;
    this.#original = { write, end, flushHeaders };
    this.#guarded = guarded;
    this.#outer = outerHeadOf(res);
    this.outgoing = new OutgoingHead(res, this.#hooks, guarded.writeHead);
    this.#prematureEnd = new PrematureEnd(res, this.#hooks, () => this.#ending !== undefined);
    Object.assign(res, guarded);
    if (res.writableEnded) {
      this.#stage = 'done';
      this.#ending = [];
    } else if (res.headersSent) this.#stage = 'streaming';
  }

  add(hook: ResponseHook): void {
    if (this.#ending === undefined) this.#hooks.add(hook);
    // A handler that goes on after the end: nothing waits for this hook, but what it holds must be given back.
    else void new ResponseHooks(hook).beforeEnd(true);
    if (this.#ending !== undefined) return;
    if (isClosed(this.#res)) hook.closedEarly?.();
    this.#prematureEnd.listenFor(hook);
  }

  /** Whether a header that is set now is sent. */
  get isHeadOpen(): boolean {
    return this.#head === undefined && !this.outgoing.isSent;
  }

  writeHead(args: unknown[]): ServerResponse {
    if (this.#isNodes()) this.outgoing.pass(args);
    else if (this.#stage === 'open' && this.#ending === undefined) {
      this.outgoing.record(args);
      if (this.outgoing.isRecorded) this.#claim();
    }
    return this.#res;
  }

  flushHeaders(): void {
    if (this.#isNodes()) {
      this.#original.flushHeaders.call(this.#res);
      return;
    }
    if (this.#stage === 'open' && this.#ending === undefined) this.outgoing.settle();
    this.#flushRequested = true;
    this.#claim();
    if (this.#stage === 'open' && this.#ending === undefined && !this.#headCompletes()) this.#begin();
  }

  write(args: unknown[]): boolean {
    const call = callOf(args);
    // A wrong type is Node's to refuse, and now, while the handler can still hear it.
    if (this.#stage === 'passing' || !isChunk(call.chunk)) return this.#pass(args);
    if (this.#ending !== undefined) return this.#ignore(call);
    if (this.#stage === 'open') this.#settleHead();
    const completes = this.#hear({ ...call, chunk: call.chunk });
    if (this.#stage === 'open') this.#begin();
    if (this.#stage === 'replaced' || this.#ending !== undefined) return this.#ignore(call);
    if (this.#stage === 'streaming' && completes) {
      this.#stage = 'withheld';
      this.#claim();
    }
    if (this.#stage === 'streaming') return this.#pass(args);
    const held = { ...call, chunk: call.chunk, completes: completes || this.#stage === 'withheld' };
    return this.#held.hold(held, this.#res.writableHighWaterMark);
  }

  end(args: unknown[]): ServerResponse {
    const { end } = this.#original;
    const call = callOf(args);
    // What Node takes for no chunk at all.
    const isEmpty = !call.chunk;
    if (this.#stage === 'passing' || !(isEmpty || isChunk(call.chunk))) {
      if (this.#stage === 'passing') this.outgoing.leave();
      return end.apply(this.#res, args as Parameters<typeof end>);
    }
    if (this.#ending !== undefined) {
      this.#whenFinished(call.done);
      return this.#res;
    }
    if (this.#stage === 'open') this.#settleHead();
    if (isChunk(call.chunk)) this.#hooks.hear(call.chunk, call.encoding);
    this.#ending = args;
    if (this.#stage !== 'holding') this.#finish();
    return this.#res;
  }

  #pass(args: unknown[]): boolean {
    if (this.#isNodes()) this.outgoing.leave();
    return this.#original.write.apply(this.#res, args as Parameters<ServerResponse['write']>);
  }

  /** What is wrong with the head is the handler's to hear, and what other middleware does to it is the hooks' to see. */
  #settleHead(): void {
    assertStatus(this.#res.statusCode);
    this.outgoing.settle();
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
    if (this.#flushRequested && !this.#headCompletes()) {
      this.outgoing.leave();
      this.#original.flushHeaders.call(this.#res);
    }
    const hasRoom = this.#release(false);
    if (!this.#held.isEmpty) this.#stage = 'withheld';
    // Otherwise the socket is full, and Node says when it is not.
    if (hasRoom) this.#held.payDrain(this.#res);
  }

  /** What the handler writes from now on is dropped. A lock lasts until the handler ends, and so the 503 waits for that. */
  #refuse(): void {
    this.#replace();
    if (!this.#hooks.outlastRefusal) this.#ending ??= [];
    if (this.#ending !== undefined) this.#finish();
  }

  /** The handler is heard to its end, and then answered for. */
  #replace(): void {
    this.#stage = 'replaced';
    this.#claim();
    this.#held.drop();
    this.#held.payDrain(this.#res);
  }

  #release(all: boolean): boolean {
    return this.#held.release(all, ({ chunk, encoding = 'utf8', done }) => {
      this.outgoing.leave();
      return this.#original.write.call(this.#res, chunk, encoding, done);
    });
  }

  /** `end()` was called: runs the hooks and then lets the response go. */
  #finish(): void {
    const hasBegun = this.outgoing.isSent;
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
    const isHeadSent = this.outgoing.isSent;
    this.#stage = 'passing';
    try {
      if (!isHeadSent && this.#head !== undefined) restoreHead(this.#res, this.#head);
      const instead = isHeadSent ? undefined : this.#hooks.instead();
      if (instead !== undefined) this.#sendInstead(instead, callOf(args));
      else {
        this.outgoing.leave();
        this.#release(true);
        this.#original.end.apply(this.#res, args as Parameters<ServerResponse['end']>);
      }
      this.outgoing.noteLeft();
    } catch (error) {
      // The hooks are through; a handler that hears of it may still answer something else.
      this.#ending = undefined;
      this.#hooks.notSent();
      throw error;
    }
    this.#stage = 'done';
  }

  /** Past all that was wrapped around us since: a compression in there believes that it has ended. */
  #sendInstead(replacement: Replacement, { done }: Call): void {
    const { write, end, writeHead, flushHeaders } = this.#res;
    this.#held.drop();
    if (this.#hooks.hasFailed) this.#hooks.notSent();
    Object.assign(this.#res, this.#guarded);
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

  /**
   * From now on calls wait that Node would have taken, and `headersSent` says so. `writableEnded` does not: a server that
   * buffers takes what there is once it reads true.
   */
  #claim(): void {
    this.outgoing.claim(() => this.#isHeadDecided());
  }

  /** What Node would say once the handler's calls had reached it. */
  #isHeadDecided(): boolean {
    if (this.#isNodes()) return false;
    const isAsked = this.outgoing.isRecorded || this.#flushRequested;
    return this.#stage !== 'open' || isAsked || this.#ending !== undefined;
  }

  #isNodes(): boolean {
    return this.#stage === 'streaming' || this.#stage === 'passing' || this.#stage === 'done';
  }

  #headCompletes(): boolean {
    const hasNoBody = isBodyless(this.#res) || Number(this.#res.getHeader('content-length') ?? 1) === 0;
    return hasNoBody && this.#hooks.withholdLastBytes;
  }
}
