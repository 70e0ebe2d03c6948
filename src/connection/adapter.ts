import type { Argument, RawReply } from '../engine/operation.ts';
import type { CommandSignal } from './command-signal.ts';
import type { Topic } from './topic.ts';

/**
 * `up`: commands may be sent. `connecting`: the status may become `up` at any moment, so commands wait. `down`:
 * commands would fail, so they are rejected at once.
 */
export type Status = 'up' | 'connecting' | 'down';

/**
 * The interface to a Redis client. An adapter connects clients of one family, follows their status and sends raw
 * commands; `Connection` adds timeouts, circuit breakers and waiting. The adapter calls `changed` when the status of a
 * key may have changed.
 */
export interface Adapter {
  readonly mode: 'standalone' | 'cluster' | 'sentinel';
  /** The client itself, for the user's own commands. */
  readonly client: unknown;
  /** The client's last error, used as the cause of the kit's errors. */
  readonly lastError: Error | undefined;
  /** Starts to connect a client that the kit created. The owner of a borrowed client connects it. */
  open(): void;
  /** Connects a borrowed client that connects when it is first used. */
  wake?(): void;
  /** The name of the master that serves a key. Each node has its own circuit breaker. */
  nodeOf(key: string): string;
  status(key: string): Status;
  /** The worst status of all masters. */
  overallStatus(): Status;
  /**
   * Sends a command to a client that is ready, but not once `signal` is aborted. Rejects with an error of the client,
   * which `errorOf` converts.
   */
  send(key: string, command: readonly Argument[], signal?: CommandSignal): Promise<RawReply>;
  /** Converts an error of `send`: to a ReplyError for an error reply. */
  errorOf(error: unknown): unknown;
  /** Returns one function per master that sends a command. Rejects with a ReplyError for an error reply. */
  masters(): readonly ((command: readonly Argument[]) => Promise<RawReply>)[];
  /** Pings this node and no other; returns undefined if the node is no longer a master of the cluster. */
  ping(node: string): Promise<unknown> | undefined;
  /**
   * Connects a node again, since its replies show that it cannot serve commands: host names, credentials and the
   * topology are looked up again. Commands in flight get their replies first, and `status` is not `up` until the new
   * socket is ready. Does nothing while the node reconnects, or if a borrowed client would not reconnect by itself.
   */
  reconnect(node: string): void;
  /** Asks a node of the cluster, but not this one, which master serves which slot. Does nothing without a cluster. */
  refreshTopology(exceptNode: string): void;
  /** Creates a subscriber, on another node than the last one if possible; undefined while no node is connected. */
  createSubscriber(): Subscriber | undefined;
  /** Closes a client that the kit created, at once. Removes the kit's listeners from a borrowed client. */
  close(): void;
}

/**
 * A client for Pub/Sub with one socket. The client does not reconnect and does not keep the process alive. Its promises
 * reject with a ReplyError for an error reply.
 */
export interface Subscriber {
  connect(events: SubscriberEvents): Promise<unknown>;
  /** Resolves when Redis has acknowledged the subscription. */
  subscribe(topic: Topic): Promise<unknown>;
  unsubscribe(topic: Topic): Promise<unknown>;
  ping(): Promise<unknown>;
  /** Whether the node receives all published messages: false once it is no master, or a borrowed client is closed. */
  isWellPlaced(): boolean;
  /** Closes the socket at once, in any state. */
  destroy(): void;
}

export interface SubscriberEvents {
  /** A message that matches several topics arrives once for each. */
  message(topic: Topic, message: string, channel: string): void;
  lost(error: unknown): void;
}

/** A client without traffic for this long gets a PING. */
export const PING_INTERVAL_MS = 2_000;

/** A socket that has not answered for this long is dead, even if the operating system has not noticed. */
export const SOCKET_TIMEOUT_MS = 5_000;

/**
 * The status of one socket, derived from the events of its client. A socket that was lost usually reconnects at once,
 * so the status is `connecting` until an attempt to connect fails. The status is then `down`.
 */
export class SocketStatus {
  #wasUp = false;
  #attempts = 0;
  #failed = false;
  /** Identifies the replacement of the socket, while it is under way. */
  #leaving: symbol | undefined;
  /** The error that ended the last socket. */
  #lostBy: unknown;

  ready(): void {
    this.#wasUp = true;
    this.#attempts = 0;
    this.#failed = false;
    this.#leaving = undefined;
  }

  reconnecting(): void {
    this.#attempts++;
  }

  /** Must be called for each error of a client that is not ready, and for a socket that ends without an error. */
  failed(error?: unknown): void {
    if (this.#wasUp && this.#attempts === 0) this.#lostBy = error;
    // Clients reject commands in flight with the error that ended the socket. node-redis emits it once more for its own
    // PING, while it reconnects: no attempt to connect has failed by that.
    else if (error === undefined || error !== this.#lostBy) this.#failed = true;
  }

  /** Must be called when the client has ended: it does not connect again by itself. */
  ended(): void {
    this.#failed = true;
  }

  get isLeaving(): boolean {
    return this.#leaving !== undefined;
  }

  /** Sends no further commands to this socket, which will be replaced. Returns a function that abandons that. */
  leave(): () => void {
    const leaving = Symbol();
    this.#leaving = leaving;
    return () => {
      if (this.#leaving === leaving) this.#leaving = undefined;
    };
  }

  status(isReady: boolean): Status {
    if (isReady) return this.isLeaving ? 'connecting' : 'up';
    return this.#failed ? 'down' : 'connecting';
  }
}

/** The status of the socket to each node of a cluster. */
export class SocketStatuses {
  readonly #statuses = new Map<string, SocketStatus>();

  of(address: string): SocketStatus {
    let status = this.#statuses.get(address);
    if (status === undefined) {
      status = new SocketStatus();
      this.#statuses.set(address, status);
    }
    return status;
  }
}

/** The delay grows exponentially up to 400 ms. Jitter keeps many processes from reconnecting at the same moment. */
export function reconnectDelay(attempts: number): number {
  return Math.min(25 * 2 ** Math.min(attempts, 10), 400) + Math.floor(Math.random() * 100);
}
