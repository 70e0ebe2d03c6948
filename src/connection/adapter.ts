import type { Argument, RawReply } from '../engine/operation.ts';

/**
 * `up`: commands may be sent. `connecting`: may be up at any moment, so a command waits for it. `down`: known to
 * fail, so a command fails at once.
 */
export type Status = 'up' | 'connecting' | 'down';

/**
 * The seam between the kit and one family of clients. An adapter knows how its clients connect, say that they are
 * ready, and take a raw command; deadlines, breakers and waiting are the connection's.
 */
export interface Adapter {
  readonly mode: 'standalone' | 'cluster';
  /** The client itself, for the user's own commands. */
  readonly client: unknown;
  /** The last error that the client told, as the cause of ours. */
  readonly lastError: Error | undefined;
  /** Begins to connect what the kit opened; a borrowed client is only watched. */
  open(): void;
  /** The master that serves a key, as a name; commands of one node share a fate. */
  nodeOf(key: string): string;
  status(key: string): Status;
  /** The worst status of all that the kit needs. */
  overallStatus(): Status;
  /** Sends to a client that is ready; rejects with a ReplyError where Redis answered with an error. */
  send(key: string, command: readonly Argument[]): Promise<RawReply>;
  /** Ways to send to each master, whatever its keys. */
  masters(): readonly ((command: readonly Argument[]) => Promise<RawReply>)[];
  /** Asks this node, and no other, whether it answers; undefined when it serves no keys any more. */
  ping(node: string): Promise<unknown> | undefined;
  /** Another connection, to listen on; undefined while no node is known to be there. Asked again, of another node. */
  listen(): ListeningSocket | undefined;
  /** Closes what the kit opened, at once; a borrowed client only loses our listeners. */
  close(): void;
}

/**
 * A connection that listens, of one socket and no more: once that is lost, another takes its place. Its promises
 * reject with a ReplyError where Redis answered with an error.
 */
export interface ListeningSocket {
  connect(events: ListeningSocketEvents): Promise<unknown>;
  /** Resolves when Redis has acknowledged it. */
  subscribe(channel: string): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
  ping(): Promise<unknown>;
  /** Whether its node still hears of all that is published, as far as anybody knows. */
  isWellPlaced(): boolean;
  /** Ends it at once, whatever it is about; it does not keep the process alive before that either. */
  destroy(): void;
}

export interface ListeningSocketEvents {
  heard(channel: string, message: string): void;
  lost(error: unknown): void;
}

/** A heartbeat this often keeps a healthy socket from idling into the timeout below. */
export const PING_INTERVAL_MS = 2_000;

/** A socket on which nothing moved for so long is dead, whatever the kernel says. */
export const SOCKET_TIMEOUT_MS = 5_000;

/** What an adapter tells as it happens. */
export interface AdapterListener {
  /** The status of some key may have changed. */
  changed(): void;
}

/**
 * The status of one socket, read from the events of its client. A socket that drops is likely back at once, so its
 * commands wait; when the first attempt to come back fails too, it is down.
 */
export class SocketPhase {
  #wasUp = false;
  #attempts = 0;
  #failed = false;

  ready(): void {
    this.#wasUp = true;
    this.#attempts = 0;
    this.#failed = false;
  }

  reconnecting(): void {
    this.#attempts++;
  }

  failed(): void {
    if (!this.#wasUp || this.#attempts > 0) this.#failed = true;
  }

  status(isReady: boolean): Status {
    if (isReady) return 'up';
    return this.#failed ? 'down' : 'connecting';
  }
}

/** How long to wait before the next attempt to connect: soon, but a herd of processes not all at once. */
export function reconnectDelay(attempts: number): number {
  return Math.min(25 * 2 ** Math.min(attempts, 10), 400) + Math.floor(Math.random() * 100);
}
