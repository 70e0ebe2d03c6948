import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { isClosed } from './close-signal.ts';
import { alsoTrue, applyHead, takesFlatHeaders } from './response-head.ts';
import type { LateHeaders, ResponseHooks } from './response-hooks.ts';

type WriteHead = ServerResponse['writeHead'];

/** The head of a guarded response, from the handler's `writeHead` until Node has it. */
export class OutgoingHead {
  readonly #res: ServerResponse;
  readonly #hooks: ResponseHooks;
  /** What was in place before the guard: Node's, or a wrapper of a middleware above. */
  readonly #original: WriteHead;
  readonly #guarded: unknown;
  #isRecorded = false;
  #isSettling = false;
  #hasLeft = false;
  #before: OutgoingHttpHeaders | undefined;
  #isPassing = false;
  /** Set once `headersSent` says more than Node does. */
  #native: (() => boolean) | undefined;

  constructor(res: ServerResponse, hooks: ResponseHooks, guarded: unknown) {
    this.#res = res;
    this.#hooks = hooks;
    this.#original = res.writeHead;
    this.#guarded = guarded;
  }

  /** Whether Node has it. */
  get isSent(): boolean {
    return this.#native === undefined ? this.#res.headersSent : this.#native();
  }

  /** Whether the handler called `writeHead`, or the first byte did. */
  get isRecorded(): boolean {
    return this.#isRecorded && !this.#isSettling;
  }

  /** Whether it passes to Node at this moment, through the middleware above. */
  get isPassing(): boolean {
    return this.#isPassing;
  }

  /** Makes `headersSent` true while `isDecided` holds, since calls wait that Node would have taken. */
  claim(isDecided: () => boolean): void {
    if (this.#native !== undefined) return;
    this.#native = alsoTrue(this.#res, 'headersSent', isDecided);
  }

  /** Until the hooks are through it may still become a 503, so nothing is sent. */
  record(args: readonly unknown[]): void {
    applyHead(this.#res, args);
    this.#isRecorded = true;
    // The wrappers in front of it have run, and Node would run them again.
    Object.assign(this.#res, { writeHead: this.#guarded });
  }

  /**
   * Runs what middleware has put in front of `writeHead` since the response is guarded, as Node does for a first byte: what
   * they change is part of the response that the hooks see.
   */
  settle(): void {
    if (this.#isRecorded || this.#res.writeHead === this.#guarded) return;
    this.#isSettling = true;
    try {
      this.#res.writeHead(this.#res.statusCode);
    } finally {
      this.#isSettling = false;
    }
  }

  /** The next call may make Node send the head. */
  leave(): void {
    if (this.#hasLeft || this.isSent) return;
    this.#hasLeft = true;
    this.#passing(() => this.#hooks.headLeaves());
    if (!this.#hooks.hearHeadLeave) return;
    this.#before = { ...this.#res.getHeaders() };
    if (Object.keys(this.#before).length === 0) keepHeaders(this.#res);
    // Node makes no head for a client that has gone; what middleware above does to it counts all the same.
    if (isClosed(this.#res)) this.pass([this.#res.statusCode]);
  }

  pass(args: readonly unknown[]): void {
    this.leave();
    this.#passing(() => {
      if (takesFlatHeaders(this.#original) || !args.some(Array.isArray)) {
        this.#original.apply(this.#res, args as Parameters<WriteHead>);
        return;
      }
      applyHead(this.#res, args);
      this.#original.call(this.#res, this.#res.statusCode);
    });
    this.noteLeft();
  }

  /** Node's HTTP/2 responses and responses of other makers can send a head without `writeHead`. */
  noteLeft(): void {
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

/** Node writes headers that are handed to `writeHead` straight to the socket where none was ever set, and forgets them. */
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
