import type { KeyPattern } from '../base/keys.ts';
import type { Deadline } from './deadline.ts';
import type { Argument, Operation, RawReply } from './operation.ts';

/** What the rooms know of the store: it runs operations and forgets keys. */
export interface Engine {
  /**
   * Runs one atomic operation; all `keys` share a hash tag. Rejects with a ConnectionError when the command was
   * certainly not run, and with a StoreError when nobody can tell or the store refused it. Never later than the
   * deadline; the request's deadline where one is given.
   */
  run<Args, Reply>(
    operation: Operation<Args, Reply>,
    keys: readonly string[],
    args: Args,
    deadline?: Deadline,
  ): Promise<Reply>;

  /** Forgets keys that share a hash tag; resolves to how many there were. */
  delete(keys: readonly string[], deadline?: Deadline): Promise<number>;

  /**
   * The keys that match, on all nodes, some at a time; one that comes or goes meanwhile may be missing, and one may
   * come twice. For administration: it visits every key that there is.
   */
  scan(pattern: KeyPattern): AsyncIterable<readonly string[]>;
}

/** What the Redis engine needs of a connection. */
export interface CommandLink {
  /**
   * Sends one command to the master that serves `key` and settles within `deadlineMs`. The command runs at most once:
   * it is sent again only where Redis says that it did not run. Replies carry strings as Buffers. A Redis error reply
   * rejects with a ReplyError.
   */
  send(key: string, command: readonly Argument[], deadlineMs: number): Promise<RawReply>;

  /** Ways to send to each master itself, with the same promises; a standalone server is its only one. */
  masters(): readonly ((command: readonly Argument[], deadlineMs: number) => Promise<RawReply>)[];
}

/** Redis understood the command and refused it. Not a sign of a broken connection. */
export class ReplyError extends Error {}
