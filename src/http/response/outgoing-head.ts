import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { isClosed } from './kit-reads.ts';
import {
  applyHead,
  type Head,
  headOf,
  outerHeadOf,
  overrideFlag,
  restoreHead,
  takesFlatHeaders,
} from './response-head.ts';
import type { LateHeaders } from './response-hook.ts';
import type { ResponseHooks } from './response-hooks.ts';

type WriteHead = ServerResponse['writeHead'];

/** The head (status and headers) of a guarded response, from the handler's `writeHead` call until Node sends it. */
export class OutgoingHead {
  readonly #res: ServerResponse;
  readonly #hooks: ResponseHooks;
  /** The `writeHead` below the guard: Node's, or a wrapper of middleware above. */
  readonly #original: WriteHead;
  readonly #guarded: unknown;
  /** The head before the guard was installed. */
  readonly #outer: Head;
  /** The head at the handler's first write or `end()`; later changes are ignored. */
  #saved: Head | undefined;
  #isRecorded = false;
  #isRunningWrappers = false;
  #isAnnounced = false;
  #before: OutgoingHttpHeaders | undefined;
  #isPassing = false;
  /** Node's own `headersSent`, once it is replaced. */
  #native: (() => boolean) | undefined;

  constructor(res: ServerResponse, hooks: ResponseHooks, guarded: unknown) {
    this.#res = res;
    this.#hooks = hooks;
    this.#original = res.writeHead;
    this.#guarded = guarded;
    this.#outer = outerHeadOf(res);
  }

  /** Whether headers can still be changed. */
  get isOpen(): boolean {
    return this.#saved === undefined && !this.isSent;
  }

  save(): void {
    this.#saved ??= headOf(this.#res);
  }

  restore(): void {
    if (this.#saved !== undefined) restoreHead(this.#res, this.#saved);
  }

  /** Removes what was set below the kit. */
  reset(): void {
    restoreHead(this.#res, this.#outer);
  }

  /** Whether Node has sent it. */
  get isSent(): boolean {
    return this.#native === undefined ? this.#res.headersSent : this.#native();
  }

  /** Whether `writeHead` was called, by the handler or for its first byte. */
  get isRecorded(): boolean {
    return this.#isRecorded && !this.#isRunningWrappers;
  }

  /** Whether it is being sent right now, through the wrappers of middleware above. */
  get isPassing(): boolean {
    return this.#isPassing;
  }

  /** Makes `headersSent` true while `isDecided()` is true, as it would be if the handler's calls had reached Node. */
  overrideHeadersSent(isDecided: () => boolean): void {
    if (this.#native !== undefined) return;
    this.#native = overrideFlag(this.#res, 'headersSent', (isNative) => isDecided() || isNative());
  }

  /** Stores the head without sending it: until the hooks have run, it may still become a 503. */
  record(args: readonly unknown[]): void {
    applyHead(this.#res, args);
    this.#isRecorded = true;
    // Removes wrappers that have just run: Node would call them again.
    Object.assign(this.#res, { writeHead: this.#guarded });
  }

  /**
   * Calls the `writeHead` wrappers that were installed above the guard, as Node does for the first byte, so that the hooks see
   * their changes.
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
    this.#passing(() => this.#hooks.headLeaves());
    if (!this.#hooks.needsSentHead) return;
    this.#before = { ...this.#res.getHeaders() };
    if (Object.keys(this.#before).length === 0) keepHeaders(this.#res);
    // Node creates no head if the client has disconnected; the wrappers run all the same.
    if (isClosed(this.#res)) this.send([this.#res.statusCode]);
  }

  send(args: readonly unknown[]): void {
    this.beforeSend();
    this.#passing(() => {
      if (takesFlatHeaders(this.#original) || !args.some(Array.isArray)) {
        this.#original.apply(this.#res, args as Parameters<WriteHead>);
        return;
      }
      applyHead(this.#res, args);
      this.#original.call(this.#res, this.#res.statusCode);
    });
    this.afterSend();
  }

  /** Reports the sent head to the hooks. HTTP/2 responses and mocks can send a head without `writeHead`. */
  afterSend(): void {
    const before = this.#before;
    if (before === undefined || !(this.isSent || isClosed(this.#res))) return;
    this.#before = undefined;
    this.#hooks.headLeft(changesSince(before, this.#res.getHeaders()));
  }

  #passing(work: () => void): void {
    this.#isPassing = true;
    try {
      work();
    } finally {
      this.#isPassing = false;
    }
  }
}

/** If no header was ever set, Node does not store the headers that `writeHead` receives. Setting one prevents that. */
function keepHeaders(res: ServerResponse): void {
  res.setHeader('X-None', '');
  res.removeHeader('X-None');
}

function changesSince(before: OutgoingHttpHeaders, after: OutgoingHttpHeaders): LateHeaders {
  const changes = new Map<string, OutgoingHttpHeaders[string]>();
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (String(before[name]) !== String(after[name])) changes.set(name, after[name]);
  }
  return changes;
}
