import type { ServerResponse } from 'node:http';
import { asError } from '../../base/errors.ts';
import { isBackpressureSuspended } from './backpressure.ts';
import {
  BufferedWrites,
  type Call,
  type Chunk,
  callOf,
  callWhenFinished,
  isChunk,
  writeAfterEnd,
} from './buffered-writes.ts';
import { onClose } from './close-signal.ts';
import { hasEmptyBody, isWholeBody, lengthOf } from './declared-body.ts';
import { beginKitReads, endKitReads, isClosed } from './kit-reads.ts';
import { type InterceptedMethods, withoutWrappers } from './method-interception.ts';
import { OutgoingHead } from './outgoing-head.ts';
import type { Replacement, ResponseHook } from './response-hook.ts';
import { ResponseHooks } from './response-hooks.ts';

/**
 * `open`: nothing was sent. `holding`: the first write waits for the hooks. `streaming`: writes go to Node. `withheld`:
 * all but the last bytes were sent. `replaced`: another response is sent when the handler calls `end()`, since a hook
 * failed or has a replacement. `passing`: the hooks have run, and calls go to Node. `done`: `end()` was passed to Node.
 */
type Stage = 'open' | 'holding' | 'streaming' | 'withheld' | 'replaced' | 'passing' | 'done';

export type GuardedMethod = 'write' | 'end' | 'writeHead' | 'flushHeaders' | 'destroy';

/** Intercepts the methods of a response, so that the hooks run before anything is sent. */
export class ResponseGuard {
  readonly #res: ServerResponse;
  readonly methods: InterceptedMethods<GuardedMethod>;
  readonly #hooks = new ResponseHooks();
  readonly outgoing: OutgoingHead;
  #listensForClose = false;
  /** Created by the first write that waits, since most responses have none. */
  #writes: BufferedWrites | undefined;
  #bytesWritten = 0;
  #stage: Stage = 'open';
  #flushRequested = false;
  /** The arguments of `end()`; undefined until `end()` is called. */
  #ending: readonly unknown[] | undefined;

  constructor(res: ServerResponse, methods: InterceptedMethods<GuardedMethod>) {
    this.#res = res;
    this.methods = methods;
    this.outgoing = new OutgoingHead(res, this.#hooks, this.methods);
    if (res.writableEnded) {
      this.#stage = 'done';
      this.#ending = [];
    } else if (res.headersSent) this.#stage = 'streaming';
  }

  /** Whether `end()` was called. */
  get hasEnded(): boolean {
    return this.#ending !== undefined;
  }

  add(hook: ResponseHook): void {
    if (this.hasEnded) {
      // A hook that is added after `end()` cannot delay the response, but must still release what it holds.
      void new ResponseHooks(hook).beforeEnd(true);
      return;
    }
    this.#hooks.add(hook);
    if (hook.closedEarly === undefined) return;
    if (isClosed(this.#res)) hook.closedEarly();
    if (!this.#listensForClose) onClose(this.#res, () => this.hasEnded || this.#hooks.notify('closedEarly'));
    this.#listensForClose = true;
  }

  intercept(name: GuardedMethod, args: unknown[]): unknown {
    beginKitReads();
    try {
      if (name === 'end') return this.#end(args);
      if (name === 'writeHead') return this.#writeHead(args);
      if (name === 'write') return this.#write(args) || isBackpressureSuspended(this.#res);
      return name === 'flushHeaders' ? this.#flushHeaders() : this.#destroy(args);
    } finally {
      endKitReads();
    }
  }

  #destroy(args: unknown[]): unknown {
    if (!this.hasEnded) this.#hooks.notify('abandoned');
    return Reflect.apply(this.methods.below.destroy, this.#res, args);
  }

  #writeHead(args: unknown[]): ServerResponse {
    if (this.#isPassedToNode()) this.outgoing.send(args);
    else if (this.#stage === 'open' && this.#ending === undefined) {
      this.outgoing.record(args);
      if (this.outgoing.isRecorded) this.#overrideHeadersSent();
    }
    return this.#res;
  }

  #flushHeaders(): void {
    if (this.#isPassedToNode()) {
      this.methods.below.flushHeaders.call(this.#res);
      return;
    }
    if (this.#stage === 'open' && this.#ending === undefined) this.outgoing.runWrappers();
    this.#flushRequested = true;
    this.#overrideHeadersSent();
    if (this.#stage === 'open' && this.#ending === undefined && !this.#headCompletes()) this.#begin();
  }

  #write(args: unknown[]): boolean {
    const call = callOf(args);
    // A chunk of a wrong type goes to Node at once, so that Node's error is thrown while the handler can catch it.
    if (this.#stage === 'passing' || !isChunk(call.chunk)) return this.#pass(args);
    if (this.#ending !== undefined) return this.#ignore(call);
    if (this.#stage === 'open') this.outgoing.prepare();
    const completes = this.#observe(call.chunk, call.encoding);
    if (this.#stage === 'open') this.#begin();
    if (this.#stage === 'replaced' || this.#ending !== undefined) return this.#ignore(call);
    if (this.#stage === 'streaming' && completes) {
      this.#stage = 'withheld';
      this.#overrideHeadersSent();
    }
    if (this.#stage === 'streaming') return this.#pass(args);
    const held = { ...call, chunk: call.chunk, completes: completes || this.#stage === 'withheld' };
    this.#writes ??= new BufferedWrites();
    return this.#writes.add(held, this.#res.writableHighWaterMark);
  }

  #end(args: unknown[]): unknown {
    const call = callOf(args);
    // The same test as in Node's `end()`.
    const isEmpty = !call.chunk;
    if (this.#stage === 'passing' || !(isEmpty || isChunk(call.chunk))) {
      if (this.#stage === 'passing') this.outgoing.beforeSend();
      return Reflect.apply(this.methods.below.end, this.#res, args);
    }
    if (this.#ending !== undefined) {
      callWhenFinished(this.#res, call.done);
      return this.#res;
    }
    if (this.#stage === 'open') this.outgoing.prepare();
    if (isChunk(call.chunk)) this.#hooks.chunk(call.chunk, call.encoding);
    this.#ending = args;
    if (this.#stage !== 'holding') this.#finish();
    return this.#res;
  }

  #pass(args: unknown[]): boolean {
    if (this.#isPassedToNode()) this.outgoing.beforeSend();
    return Reflect.apply(this.methods.below.write, this.#res, args) === true;
  }

  /** Passes a chunk to the hooks. Returns whether the chunk completes the response and must be withheld. */
  #observe(chunk: Chunk, encoding: BufferEncoding | undefined): boolean {
    this.#hooks.chunk(chunk, encoding);
    this.#bytesWritten += lengthOf(chunk, encoding);
    return this.#hooks.withholdLastBytes && isWholeBody(this.#res, this.#bytesWritten);
  }

  /** Runs the `beforeHeaders` hooks before the first write or flush, and then continues with the response. */
  #begin(): void {
    const wait = this.#hooks.beforeHeaders();
    if (wait === undefined) this.#proceed();
    else {
      this.#stage = 'holding';
      this.#overrideHeadersSent();
      this.outgoing.save();
      this.#after(wait, () => this.#proceed());
    }
  }

  #proceed(): void {
    if (this.#hooks.hasFailed) this.#refuse();
    else if (this.#ending !== undefined) this.#finish();
    else if (this.#hooks.instead() !== undefined) this.#replace();
    else this.#stream();
  }

  #stream(): void {
    this.outgoing.restore();
    this.#stage = 'streaming';
    if (this.#flushRequested && !this.#headCompletes()) {
      this.outgoing.beforeSend();
      this.methods.below.flushHeaders.call(this.#res);
    }
    const hasSpace = this.#release(false);
    if (this.#writes?.isEmpty === false) this.#stage = 'withheld';
    // Without space, Node emits 'drain' later.
    if (hasSpace) this.#writes?.emitDrain(this.#res);
  }

  /** Replaces the response with a 503, at once or, if a hook outlasts the refusal, when the handler ends. */
  #refuse(): void {
    this.#replace();
    if (!this.#hooks.outlastRefusal) this.#ending ??= [];
    if (this.#ending !== undefined) this.#finish();
  }

  /** Discards the handler's response; the replacement is sent when the handler calls `end()`. */
  #replace(): void {
    this.#stage = 'replaced';
    this.#overrideHeadersSent();
    this.#writes?.discard();
    this.#writes?.emitDrain(this.#res);
  }

  #release(all: boolean): boolean {
    const hasSpace = this.#writes?.release(all, ({ chunk, encoding = 'utf8', done }) => {
      this.outgoing.beforeSend();
      return this.methods.below.write.call(this.#res, chunk, encoding, done) === true;
    });
    return hasSpace ?? true;
  }

  /** Runs the hooks after `end()` was called, and then sends the response. */
  #finish(): void {
    const hasBegun = this.outgoing.isSent;
    const wait = this.#hooks.beforeEnd(hasBegun);
    if (wait === undefined) this.#complete();
    else {
      this.#overrideHeadersSent();
      if (!hasBegun) this.outgoing.save();
      this.#after(wait, () => this.#complete());
    }
  }

  #complete(): void {
    const args = this.#ending ?? [];
    const isHeadSent = this.outgoing.isSent;
    this.#stage = 'passing';
    try {
      if (!isHeadSent) this.outgoing.restore();
      const instead = isHeadSent ? undefined : this.#hooks.instead();
      if (instead !== undefined) this.#sendReplacement(instead, callOf(args));
      else {
        this.outgoing.beforeSend();
        this.#release(true);
        Reflect.apply(this.methods.below.end, this.#res, args);
      }
      this.outgoing.afterSend();
    } catch (error) {
      // The hooks have run. A handler that catches the error may send another response.
      this.#ending = undefined;
      this.#hooks.notify('notSent');
      throw error;
    }
    this.#stage = 'done';
  }

  /** Bypasses later wrappers: compression, for example, has already received the end of the response. */
  #sendReplacement(replacement: Replacement, { done }: Call): void {
    const { destroy: _, ...methods } = this.methods.installed;
    this.#writes?.discard();
    if (this.#hooks.hasFailed) this.#hooks.notify('notSent');
    withoutWrappers(this.#res, methods, () => replacement(this.#res, () => this.outgoing.reset()));
    callWhenFinished(this.#res, done);
  }

  #after(wait: Promise<void>, go: () => void): void {
    wait.then(go).catch((error: unknown) => {
      // No caller can catch the error, so the response is destroyed with it.
      if (this.#stage === 'passing') {
        this.#stage = 'done';
        this.#ending ??= [];
      }
      this.#res.destroy(asError(error));
    });
  }

  /** Ignores a write after the end. The callback receives an error unless the guard has ended the response. */
  #ignore({ done }: Call): boolean {
    const isEndedByGuard =
      this.#hooks.hasFailed || (this.#stage === 'replaced' && this.#ending === undefined);
    if (done !== undefined) process.nextTick(done, isEndedByGuard ? null : writeAfterEnd());
    return isEndedByGuard;
  }

  /**
   * Makes `headersSent` true while calls wait that Node would have executed. `writableEnded` keeps Node's value: an
   * adapter that buffers reads the response as soon as `writableEnded` is true.
   */
  #overrideHeadersSent(): void {
    this.outgoing.overrideHeadersSent(() => this.#isHeadDecided());
  }

  /** Whether `headersSent` would be true if the calls that wait in the guard had reached Node. */
  #isHeadDecided(): boolean {
    if (this.#isPassedToNode()) return false;
    const isRequested = this.outgoing.isRecorded || this.#flushRequested;
    return this.#stage !== 'open' || isRequested || this.#ending !== undefined;
  }

  #isPassedToNode(): boolean {
    return this.#stage === 'streaming' || this.#stage === 'passing' || this.#stage === 'done';
  }

  #headCompletes(): boolean {
    return this.#hooks.withholdLastBytes && hasEmptyBody(this.#res);
  }
}
