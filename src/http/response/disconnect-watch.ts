import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { internalPurposeOf } from '../internal-request.ts';
import { WatchedProperty } from '../watched-property.ts';
import { isClosed, isKitListener, isKitReading, listenAsKit } from './kit-reads.ts';

/**
 * Whether to store a response that the handler ended after its client had disconnected. `detect`: unless the handler may
 * have noticed, and so may have ended the response early. `keep`: always. `drop`: never.
 */
export type OnDisconnect = 'detect' | 'keep' | 'drop';

/** Properties that show that the client has disconnected. */
const RESPONSE_NAMES = ['destroyed', 'closed', 'writable', 'writableAborted', 'errored'];
const REQUEST_NAMES = ['destroyed', 'closed', 'aborted', 'readableAborted', 'errored'];
const SOCKET_NAMES = ['destroyed', 'closed', 'writable', 'errored', 'readyState'];
/** HTTP/2: absent after a disconnect, or objects that show it. */
const HTTP2_NAMES = ['stream', 'socket', 'connection'];

/**
 * Detects whether a handler may have noticed, before it ended the response, that its client had disconnected: by a listener
 * that was added below the kit, or by reading a property after the disconnect. Properties are watched only from then on, so a
 * request whose client stays pays for one listener.
 */
export class DisconnectWatch {
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #before: ReadonlySet<unknown>;
  readonly #stopListening: () => void;
  #isDisconnected = false;
  #isNoticed = false;

  constructor(req: IncomingMessage, res: ServerResponse) {
    this.#req = req;
    this.#res = res;
    this.#before = new Set(this.#listeners());
    // 'aborted' comes before 'close', when listeners added with `once` can still be seen.
    this.#stopListening = listenAsKit(req, 'aborted', () => this.#checkListeners());
    if (isClosed(res)) this.disconnected();
  }

  /** To be called when the response has emitted 'close' and `end()` was not called. */
  disconnected(): void {
    if (this.#isDisconnected) return;
    this.#isDisconnected = true;
    this.#checkListeners();
    this.#watchReads();
  }

  /** To be called when the handler ends its response. Returns whether it may have ended it early because of a disconnect. */
  mayBeCutShort(onDisconnect: OnDisconnect): boolean {
    this.#stopListening();
    if (onDisconnect === 'keep') return false;
    const isDisconnected = this.#isDisconnected || isClosed(this.#res) || this.#isDisconnecting();
    if (!isDisconnected || onDisconnect === 'drop') return isDisconnected;
    // Between the loss of the socket and 'close', reads are not watched yet.
    return !this.#isDisconnected || this.#isNoticed;
  }

  /** Whether the socket is destroyed and 'close' was not emitted yet. An internal request has no client. */
  #isDisconnecting(): boolean {
    return this.#res.socket?.destroyed === true && internalPurposeOf(this.#req) === undefined;
  }

  #checkListeners(): void {
    this.#isNoticed ||= this.#listeners().some(
      (listener) => !this.#before.has(listener) && !isKitListener(listener),
    );
  }

  #listeners(): ((...args: never[]) => unknown)[] {
    const req: IncomingMessage & { readonly closed?: boolean; readonly stream?: EventEmitter } = this.#req;
    const res = this.#res;
    // With HTTP/2, other requests share the socket.
    const connection: unknown = req.stream ?? req.socket;
    // Mock requests have a plain object as their socket.
    const emitters = connection instanceof EventEmitter ? [connection] : [];
    // A request whose body was read has already emitted 'close'.
    const ofRequest = req.closed === true ? [] : [...req.listeners('close'), ...req.listeners('error')];
    return [
      ...res.listeners('close'),
      ...req.listeners('aborted'),
      ...ofRequest,
      ...emitters.flatMap((emitter) =>
        ['close', 'end', 'error'].flatMap((event) => emitter.listeners(event)),
      ),
    ] as ((...args: never[]) => unknown)[];
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
    // The connection is closed, so the properties are never restored.
    for (const name of names) if (name in target) new WatchedProperty(target, name, { read });
  }

  /** After a disconnect, Node calls the callbacks of `write` with an error. */
  #watchWriteCallbacks(): void {
    const { write } = this.#res;
    this.#res.write = ((...args: Parameters<typeof write>) => {
      this.#isNoticed ||= args.some((arg: unknown) => typeof arg === 'function');
      return write.apply(this.#res, args);
    }) as typeof write;
  }
}
