import type { KeyPattern } from '../base/keys.ts';
import type { Deadline } from './deadline.ts';
import type { Argument, Operation, RawReply } from './operation.ts';

/** The store, as features use it. */
export interface Engine {
  /**
   * Runs one atomic operation; all `keys` share a hash tag. Rejects with a ConnectionError if the command certainly did
   * not run, and with a StoreError if it may have run, or if the store refused it. Settles within `deadline`, or within
   * `commandTimeout` if none is given.
   */
  run<Args, Reply>(
    operation: Operation<Args, Reply>,
    keys: readonly string[],
    args: Args,
    deadline?: Deadline,
  ): Promise<Reply>;

  /** As `run`, for an operation whose last argument may still change. Undefined if the store runs operations at once. */
  readonly runAmendable?: <Args, Reply>(
    operation: Operation<Args, Reply>,
    keys: readonly string[],
    args: Args,
    deadline?: Deadline,
  ) => AmendableCommand<Reply>;

  /** Deletes keys that share a hash tag; resolves to the number of keys that existed. */
  delete(keys: readonly string[], deadline?: Deadline): Promise<number>;

  /**
   * Yields the matching keys of all nodes, in pages. As with SCAN, a key that is created or deleted meanwhile may be
   * missing, and a key may be yielded twice. For administration only: a scan visits every key of the database.
   */
  scan(pattern: KeyPattern): AsyncIterable<readonly string[]>;
}

/** Sends messages to subscribers. */
export interface Publisher {
  /** Rejects as `Engine.run` does. The message may have been sent if the rejection is a StoreError. */
  publish(channel: string, message: string): Promise<void>;
}

/** A command that is sent at the end of the current turn of the event loop. */
interface AmendableCommand<Reply> {
  readonly reply: Promise<Reply>;
  /**
   * Replaces the last argument. Must be called in the turn of the event loop in which the command was created. The
   * command may still be sent with an earlier argument, so its reply must tell which one Redis received.
   */
  amend(argument: string): void;
}

/** The connection, as the Redis engine uses it. */
export interface CommandLink {
  /**
   * Sends one command to the master that serves `key`, and settles within `timeoutMs`. The command runs at most once:
   * it is sent again only if Redis replied that it did not run. Replies carry strings as Buffers. An error reply
   * rejects with a ReplyError.
   */
  send(key: string, command: readonly Argument[], timeoutMs: number): Promise<RawReply>;

  /**
   * Resolves to one `send` function per master, with the guarantees of `send`, once all masters can be reached. Rejects
   * with a ConnectionError if one cannot be reached within `timeoutMs`. A standalone server is the only master.
   */
  masters(
    timeoutMs: number,
  ): Promise<readonly ((command: readonly Argument[], timeoutMs: number) => Promise<RawReply>)[]>;
}

/** An error reply of Redis: the server is reachable, but the command failed. */
export class ReplyError extends Error {}
