import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { internalPurposeOf } from '../internal-request.ts';
import { WatchedProperty } from '../watched-property.ts';
import { asKitListener, isClosed, isKitListener, isKitReading } from './kit-reads.ts';
import { type ResponseState, stateOf } from './response-state.ts';

/**
 * Whether to store a response that the handler ended after its client had disconnected. `detect`: store it unless the
 * handler may have noticed the disconnect, and so may have ended the response early. `keep`: always store it. `drop`:
 * never store it.
 */
export type OnDisconnect = 'detect' | 'keep' | 'drop';

/** Properties that show that the client has disconnected. */
const RESPONSE_NAMES = ['destroyed', 'closed', 'writable', 'writableAborted', 'errored'];
const REQUEST_NAMES = ['destroyed', 'closed', 'aborted', 'readableAborted', 'errored'];
const SOCKET_NAMES = ['destroyed', 'closed', 'writable', 'errored', 'readyState'];
/** HTTP/2 only: properties that are absent after a disconnect, or objects with properties that show the disconnect. */
const HTTP2_NAMES = ['stream', 'socket', 'connection'];

type Listener = (...args: never[]) => unknown;

type WatchedState = ResponseState & { disconnectWatches?: DisconnectWatch[] };

/**
 * Detects whether a handler may have noticed, before it ended the response, that its client had disconnected: by a
 * listener that was added below the kit, or by reading a property after the disconnect. Properties are watched only
 * after a disconnect, so a request without a disconnect costs one listener.
 */
export class DisconnectWatch {
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  /** The listeners above, of each event. */
  readonly #before: readonly (readonly unknown[])[];
  #isOver = false;
  #isDisconnected = false;
  #isNoticed = false;

  constructor(req: IncomingMessage, res: ServerResponse) {
    this.#req = req;
    this.#res = res;
    this.#before = this.#listeners();
    this.#listen();
    if (isClosed(res)) this.disconnected();
  }

  /** 'aborted' is emitted before 'close', while listeners that were added with `once` are still registered. */
  #listen(): void {
    const state: WatchedState = stateOf(this.#res);
    if (state.disconnectWatches !== undefined) {
      state.disconnectWatches.push(this);
      return;
    }
    // All watches of a response share one event listener, so that Node does not warn of a leak.
    const watches = [this as DisconnectWatch];
    state.disconnectWatches = watches;
    const aborted = () => {
      for (const watch of watches) watch.#checkListeners();
    };
    this.#req.once('aborted', asKitListener(aborted));
  }

  /** To be called when the response has emitted 'close' and `end()` was not called. */
  disconnected(): void {
    if (this.#isDisconnected) return;
    this.#isDisconnected = true;
    this.#checkListeners();
    this.#watchReads();
  }

  /**
   * To be called when the handler ends its response. Returns whether the response may be incomplete because of a
   * disconnect, or with `drop` whether the client has disconnected.
   */
  mayBeCutShort(onDisconnect: OnDisconnect): boolean {
    this.#isOver = true;
    if (onDisconnect === 'keep') return false;
    const isDisconnected = this.#isDisconnected || isClosed(this.#res) || this.#isDisconnecting();
    if (!isDisconnected || onDisconnect === 'drop') return isDisconnected;
    // Reads are not watched between the loss of the socket and 'close', so the handler may have noticed the disconnect.
    return !this.#isDisconnected || this.#isNoticed;
  }

  /** Whether the socket is destroyed, even before 'close' is emitted. An internal request has no client to lose. */
  #isDisconnecting(): boolean {
    return this.#res.socket?.destroyed === true && internalPurposeOf(this.#req) === undefined;
  }

  #checkListeners(): void {
    if (this.#isOver || this.#isNoticed) return;
    const before = this.#before.flat();
    this.#isNoticed = this.#listeners()
      .flat()
      .some((listener) => !before.includes(listener) && !isKitListener(listener));
  }

  /** Node returns a new array for each event. The arrays are not copied into one, since most are never read. */
  #listeners(): Listener[][] {
    const req: IncomingMessage & { readonly closed?: boolean; readonly stream?: EventEmitter } = this.#req;
    const res: EventEmitter = this.#res;
    const listeners = [res.listeners('close'), req.listeners('aborted')];
    // A request whose body was read has already emitted 'close'.
    if (req.closed !== true) listeners.push(req.listeners('close'), req.listeners('error'));
    // With HTTP/2, other requests share the socket.
    const connection: unknown = req.stream ?? req.socket;
    // Mock requests have a plain object as their socket.
    if (connection instanceof EventEmitter) {
      listeners.push(
        connection.listeners('close'),
        connection.listeners('end'),
        connection.listeners('error'),
      );
    }
    return listeners as Listener[][];
  }

  #watchReads(): void {
    const { socket } = this.#req;
    const isHttp2 = this.#req.httpVersionMajor > 1;
    this.#watch(this.#res, [...RESPONSE_NAMES, ...(isHttp2 ? HTTP2_NAMES : [])]);
    this.#watch(this.#req, [...REQUEST_NAMES, ...(isHttp2 ? HTTP2_NAMES : [])]);
    if (socket && !isHttp2) this.#watch(socket, SOCKET_NAMES);
    this.#watchWriteCallbacks();
  }

  #watch(target: object, names: readonly string[]): void {
    const read = (value: unknown) => {
      this.#isNoticed ||= !isKitReading();
      return value;
    };
    // The properties are never restored, since the connection is closed.
    for (const name of names) if (name in target) new WatchedProperty(target, name, { read });
  }

  /** After a disconnect, Node calls callbacks of `write` with an error, by which a handler notices the disconnect. */
  #watchWriteCallbacks(): void {
    const { write } = this.#res;
    this.#res.write = ((...args: Parameters<typeof write>) => {
      this.#isNoticed ||= args.some((arg: unknown) => typeof arg === 'function');
      return write.apply(this.#res, args);
    }) as typeof write;
  }
}
