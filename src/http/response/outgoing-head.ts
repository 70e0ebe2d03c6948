import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { isClosed } from './kit-reads.ts';
import type { InterceptedMethods, Method } from './method-interception.ts';
import { overrideFlag } from './response-flags.ts';
import {
  applyHead,
  assertStatus,
  type Head,
  headOf,
  outerHeadOf,
  restoreHead,
  takesFlatHeaders,
} from './response-head.ts';
import type { LateHeaders } from './response-hook.ts';
import type { ResponseHooks } from './response-hooks.ts';

/** The head (status and headers) of a guarded response, from the handler's `writeHead` call until Node sends it. */
export class OutgoingHead {
  readonly #res: ServerResponse;
  readonly #hooks: ResponseHooks;
  /** The `writeHead` below the guard: Node's, or a wrapper of middleware above. */
  readonly #original: Method;
  readonly #guarded: Method;
  /** The head that middleware above had set before the guard was installed. */
  readonly #outer: Head;
  /** The head at the handler's first write or `end()`; later changes are ignored. */
  #saved: Head | undefined;
  #isRecorded = false;
  #isRunningWrappers = false;
  #isAnnounced = false;
  #before: OutgoingHttpHeaders | undefined;
  #isPassing = false;
  /** Reads Node's own `headersSent`, once the guard has overridden the property. */
  #native: (() => boolean) | undefined;

  constructor(
    res: ServerResponse,
    hooks: ResponseHooks,
    { below, installed }: InterceptedMethods<'writeHead'>,
  ) {
    this.#res = res;
    this.#hooks = hooks;
    this.#original = below.writeHead;
    this.#guarded = installed.writeHead;
    this.#outer = outerHeadOf(res);
  }

  /** Whether headers can still be changed: the head is neither saved nor sent. */
  get isOpen(): boolean {
    return this.#saved === undefined && !this.isSent;
  }

  save(): void {
    this.#saved ??= headOf(this.#res);
  }

  restore(): void {
    if (this.#saved !== undefined) restoreHead(this.#res, this.#saved);
  }

  /** Restores the head that middleware above had set, without changes that were made below the kit. */
  reset(): void {
    restoreHead(this.#res, this.#outer);
  }

  /** Whether Node has sent the head. */
  get isSent(): boolean {
    return this.#native === undefined ? this.#res.headersSent : this.#native();
  }

  /** Whether `writeHead` was called, by the handler itself or before the handler's first byte. */
  get isRecorded(): boolean {
    return this.#isRecorded && !this.#isRunningWrappers;
  }

  /** Whether the head is being sent right now, through the `writeHead` wrappers of middleware above. */
  get isPassing(): boolean {
    return this.#isPassing;
  }

  /** Makes `headersSent` true while `isDecided()` is true, as if the handler's calls had reached Node. */
  overrideHeadersSent(isDecided: () => boolean): void {
    if (this.#native !== undefined) return;
    this.#native = overrideFlag(this.#res, 'headersSent', () => isDecided() || undefined);
  }

  /** Stores the head without sending it. A hook that fails may still replace the response with a 503. */
  record(args: readonly unknown[]): void {
    applyHead(this.#res, args);
    this.#isRecorded = true;
    // Removes `writeHead` wrappers that have just run, since Node would call them again.
    if (this.#res.writeHead !== this.#guarded) Object.assign(this.#res, { writeHead: this.#guarded });
  }

  /** Throws for an invalid status while the handler can catch it, and runs `writeHead` wrappers before the hooks. */
  prepare(): void {
    assertStatus(this.#res.statusCode);
    this.runWrappers();
  }

  /**
   * Calls the `writeHead` wrappers that were installed after the guard, as Node does before the first byte, so that the
   * hooks receive the headers that the wrappers set.
   */
  runWrappers(): void {
    if (this.#isRecorded || this.#res.writeHead === this.#guarded) return;
    this.#isRunningWrappers = true;
    try {
      this.#res.writeHead(this.#res.statusCode);
    } finally {
      this.#isRunningWrappers = false;
    }
  }

  /** To be called before a call that may make Node send the head. */
  beforeSend(): void {
    if (this.#isAnnounced || this.isSent) return;
    this.#isAnnounced = true;
    this.#isPassing = true;
    try {
      this.#hooks.headLeaves();
    } finally {
      this.#isPassing = false;
    }
    if (!this.#hooks.needsSentHead) return;
    this.#before = this.#res.getHeaders();
    if (isEmpty(this.#before)) keepHeaders(this.#res);
    // If the client has disconnected, Node creates no head. The wrappers run here so that the hooks receive their
    // headers.
    if (isClosed(this.#res)) this.send([this.#res.statusCode]);
  }

  send(args: readonly unknown[]): void {
    this.beforeSend();
    this.#isPassing = true;
    try {
      if (takesFlatHeaders(this.#original) || !args.some(Array.isArray)) {
        Reflect.apply(this.#original, this.#res, args);
      } else {
        applyHead(this.#res, args);
        this.#original.call(this.#res, this.#res.statusCode);
      }
    } finally {
      this.#isPassing = false;
    }
    this.afterSend();
  }

  /** Reports the sent head to the hooks. HTTP/2 responses and mocks can send a head without `writeHead`. */
  afterSend(): void {
    const before = this.#before;
    if (before === undefined || !(this.isSent || isClosed(this.#res))) return;
    this.#before = undefined;
    this.#hooks.headLeft(changesSince(before, this.#res.getHeaders()));
  }
}

function isEmpty(headers: OutgoingHttpHeaders): boolean {
  for (const _name in headers) return false;
  return true;
}

/** Makes Node store the headers that `writeHead` receives, which it does only if a header was set before. */
function keepHeaders(res: ServerResponse): void {
  res.setHeader('X-None', '');
  res.removeHeader('X-None');
}

function changesSince(before: OutgoingHttpHeaders, after: OutgoingHttpHeaders): LateHeaders {
  const changes = new Map<string, OutgoingHttpHeaders[string]>();
  for (const name in before) if (!isSame(before[name], after[name])) changes.set(name, after[name]);
  for (const name in after) if (before[name] === undefined) changes.set(name, after[name]);
  return changes;
}

/** Almost all headers are the same object, whose comparison as text would cost much more. */
function isSame(a: OutgoingHttpHeaders[string], b: OutgoingHttpHeaders[string]): boolean {
  return a === b || String(a) === String(b);
}
