import type { ServerResponse } from 'node:http';
import { onClose } from '../http/response/close-signal.ts';
import { isClosed } from '../http/response/kit-reads.ts';
import { HEARTBEAT } from './frames.ts';

/** compression() adds `flush`: without a call, it holds messages back until it has enough bytes for a block. */
type FlushableResponse = ServerResponse & { flush?: unknown };

const HEADERS = {
  'Content-Type': 'text/event-stream',
  // `no-transform`: a compressor that follows the standard leaves the stream alone.
  'Cache-Control': 'no-cache, no-transform',
  // Nginx would hold the stream back until its buffer is full.
  'X-Accel-Buffering': 'no',
} as const;

/** A response that is a stream of events. Frames wait until it is open, and while the client reads slowly. */
export class EventStream {
  readonly #res: FlushableResponse;
  readonly #endListeners: (() => void)[] = [];
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #isBlocked = true;
  #isEnded = false;
  #unblocked: (() => void)[] = [];

  constructor(res: ServerResponse) {
    this.#res = res;
    res.on('drain', () => this.#unblock());
    onClose(res, () => this.end());
  }

  /** The bytes that wait for the client besides those in the buffer of the socket. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Calls the listener when the stream ends, for any reason. */
  onEnd(listener: () => void): void {
    if (this.#isEnded) listener();
    else this.#endListeners.push(listener);
  }

  /** Sends the head, the first frame, and the frames that wait. Throws if another head was sent already. */
  open(first: Buffer): void {
    if (this.#isEnded) return;
    this.setHeaders();
    this.#res.flushHeaders();
    this.#waiting.unshift(first);
    this.#waitingBytes += first.length;
    this.#unblock();
  }

  setHeaders(): void {
    for (const [name, value] of Object.entries(HEADERS)) this.#res.setHeader(name, value);
  }

  send(frame: Buffer): void {
    if (this.#isEnded) return;
    if (this.#isBlocked) {
      this.#waiting.push(frame);
      this.#waitingBytes += frame.length;
    } else this.#write(frame);
  }

  /** Undefined if a frame would be written at once; else a promise that resolves when it would, or the stream ends. */
  whenUnblocked(): Promise<void> | undefined {
    if (!this.#isBlocked || this.#isEnded) return undefined;
    return new Promise((resolve) => this.#unblocked.push(resolve));
  }

  /** A client that does not read needs no heartbeat: its connection is not idle. */
  heartbeat(): void {
    if (!this.#isBlocked) this.#write(HEARTBEAT);
  }

  /** Ends the response, also one whose client has left: middleware above releases what it holds for the request. */
  end(): void {
    if (!this.#over() || this.#res.writableEnded) return;
    // A browser gives up after a response that is no stream of events.
    if (!this.#res.headersSent && !isClosed(this.#res)) this.setHeaders();
    this.#res.end();
  }

  /** Closes the connection at once, and drops the frames that the client has not read. */
  cut(): void {
    if (this.#over()) this.#res.destroy();
  }

  /** Leaves the response to others. */
  abandon(): void {
    this.#over();
  }

  /** Returns false if the stream has ended before. */
  #over(): boolean {
    if (this.#isEnded) return false;
    this.#isEnded = true;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#resume();
    for (const listener of this.#endListeners) listener();
    return true;
  }

  #unblock(): void {
    this.#isBlocked = false;
    let written = 0;
    for (const frame of this.#waiting) {
      if (this.#isBlocked || this.#isEnded) break;
      written++;
      this.#waitingBytes -= frame.length;
      this.#write(frame);
    }
    this.#waiting.splice(0, written);
    if (!this.#isBlocked) this.#resume();
  }

  #resume(): void {
    const resumed = this.#unblocked;
    this.#unblocked = [];
    for (const resume of resumed) resume();
  }

  #write(frame: Buffer): void {
    // Other middleware may have ended the response.
    if (this.#isEnded || this.#res.writableEnded || isClosed(this.#res)) return;
    if (!this.#res.write(frame)) this.#isBlocked = true;
    if (typeof this.#res.flush === 'function') this.#res.flush();
  }
}
