import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { internalPurposeOf } from '../internal-request.ts';
import { WatchedProperty } from '../watched-property.ts';

/**
 * What becomes of a response that its handler ended after the client had left. `detect`: it counts unless the handler
 * may have noticed and cut it short. `keep`: it counts. `drop`: it does not.
 */
export type OnDisconnect = 'detect' | 'keep' | 'drop';

/** What tells that the client has left. */
const RESPONSE_NAMES = ['destroyed', 'closed', 'writable', 'writableAborted', 'errored'];
const REQUEST_NAMES = ['destroyed', 'closed', 'aborted', 'readableAborted', 'errored'];
const SOCKET_NAMES = ['destroyed', 'closed', 'writable', 'errored', 'readyState'];
/** Under HTTP/2 there are none any more, or they tell it themselves. */
const HTTP2_NAMES = ['stream', 'socket', 'connection'];

const ABORTED: unique symbol = Symbol('what waits for the request to be aborted');

type Abortable = IncomingMessage & { [ABORTED]?: Set<() => void> };

/** The kit's own listeners for the end of a connection. */
const kitListeners = new WeakSet<(...args: never[]) => unknown>();

/** More than 0 while Node or the kit reads the state of a response. */
let readers = 0;

/** Reads of a response's state in here are not the handler's. */
export function asReader<Result>(work: () => Result): Result {
  readers++;
  try {
    return work();
  } finally {
    readers--;
  }
}

/** Listens for the kit, which does not shorten a response because of what it hears. */
export function listenOnce(emitter: EventEmitter, event: string, listener: () => void): void {
  kitListeners.add(listener);
  emitter.once(event, listener);
}

/** Calls the listener when the client breaks its request off; returns how to stop that. All share one listener. */
function onAborted(req: Abortable, listener: () => void): () => void {
  let listeners = req[ABORTED];
  if (listeners === undefined) {
    const all = new Set<() => void>();
    listeners = all;
    req[ABORTED] = all;
    listenOnce(req, 'aborted', () => {
      for (const each of all) each();
    });
  }
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Whether 'close' has been emitted already, and will not be again. */
export function isClosed(
  res: ServerResponse & { readonly stream?: { readonly destroyed?: boolean } },
): boolean {
  // Node's HTTP/2 responses know it by their stream only.
  return asReader(() => res.destroyed || res.stream?.destroyed === true);
}

/**
 * Finds out whether a handler may have noticed that its client left before it ended the response. It has noticed when a
 * listener that was added below heard of it, or when it then read a property that tells it. A read before that tells
 * nothing, so requests whose clients stay pay for one listener.
 */
export class DisconnectWatch {
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #before: ReadonlySet<unknown>;
  readonly #stopListening: () => void;
  #hasLeft = false;
  #isNoticed = false;

  constructor(req: IncomingMessage, res: ServerResponse) {
    this.#req = req;
    this.#res = res;
    this.#before = new Set(this.#listeners());
    // It is emitted before the 'close' of the response, when listeners for one occasion are still known.
    this.#stopListening = onAborted(req, () => this.#askListeners());
    if (isClosed(res)) this.left();
  }

  /** The response has emitted 'close', and \`end()\` was not called. */
  left(): void {
    if (this.#hasLeft) return;
    this.#hasLeft = true;
    this.#askListeners();
    this.#watchReads();
  }

  /** Called when the handler ends its response: whether it may be shorter because the client has left. */
  mayBeCutShort(onDisconnect: OnDisconnect): boolean {
    this.#stopListening();
    if (onDisconnect === 'keep') return false;
    const hasLeft = this.#hasLeft || isClosed(this.#res) || this.#isLeaving();
    if (!hasLeft || onDisconnect === 'drop') return hasLeft;
    // While it is leaving, what is read is not known.
    return !this.#hasLeft || this.#isNoticed;
  }

  /** Whether the socket is destroyed, though it has not emitted 'close'. Behind a request of the kit is no client. */
  #isLeaving(): boolean {
    return this.#res.socket?.destroyed === true && internalPurposeOf(this.#req) === undefined;
  }

  #askListeners(): void {
    this.#isNoticed ||= this.#listeners().some(
      (listener) => !this.#before.has(listener) && !kitListeners.has(listener),
    );
  }

  #listeners(): ((...args: never[]) => unknown)[] {
    const req: IncomingMessage & { readonly closed?: boolean; readonly stream?: EventEmitter } = this.#req;
    const res = this.#res;
    // Under HTTP/2 the socket is the connection of other requests as well.
    const connection: unknown = req.stream ?? req.socket;
    // Mocks of requests have a plain object.
    const emitters = connection instanceof EventEmitter ? [connection] : [];
    // A request whose body was read has emitted 'close' long before, and will not again.
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
      this.#isNoticed ||= readers === 0;
      return value;
    };
    // The connection is over and the objects go with it, so nothing is put back.
    for (const name of names) if (name in target) new WatchedProperty(target, name, { read });
  }

  /** Node calls them with an error now. */
  #watchWriteCallbacks(): void {
    const { write } = this.#res;
    this.#res.write = ((...args: Parameters<typeof write>) => {
      this.#isNoticed ||= args.some((arg: unknown) => typeof arg === 'function');
      return write.apply(this.#res, args);
    }) as typeof write;
  }
}
