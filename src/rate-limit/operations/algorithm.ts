import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';

/** The numbers of one policy. The comment of each algorithm defines their meaning. */
export type PolicyNumbers = readonly [limit: number, span: number, rate: number];

/** Where a charge is recorded, so that it can be refunded. Each algorithm defines the meaning of both numbers. */
export interface Charge {
  /** 0 when there is nothing to refund. */
  readonly stamp: number;
  readonly position: number;
}

/** The count of one identity under one policy, at one moment. Only `save` and `refund` write to the keyspace. */
export interface PolicyState {
  readonly found: StoredFormat;
  /** Units that count against the limit now. */
  used(): number;
  /** Milliseconds until `cost` units fit: 0 when they fit now, -1 when they never will. */
  waitMs(cost: number): number;
  /** As `waitMs`, but also not before the latest time for which units are granted already. */
  turnMs(cost: number): number;
  /** Milliseconds until more quota comes back; 0 when nothing is used. */
  resetMs(): number;
  /**
   * Counts the units even if they do not fit. Units of a refused request count only up to a full quota, so that a flood
   * of refused requests costs no more memory and no longer wait than a full quota. `due`: the latest time at which the
   * units are used; default now.
   */
  charge(units: number, isRefused: boolean, due?: number): Charge;
  /** Gives up the quota that would come back unused until `due`, the time at which units are granted. */
  skipTo?(due: number): void;
  /** Called for each request that the policies of the identity refuse. */
  refuse(): void;
  /** Stores what was charged, or else which entries have expired, so that the next call need not visit them again. */
  save(): void;
  /** Refunds up to `units` units of a charge, as far as they still count, and saves the state. */
  refund(charge: Charge, units: number): void;
}

/**
 * The script's side of an algorithm: blocks of Lua over local variables. Redis creates the functions of a script on each
 * call, and functions over a table took a third of the time of a decision.
 *
 * A block may use `now`, `key` and the policy's numbers `limit`, `span` and `rate`.
 */
export interface AlgorithmLua {
  /** The local variables of the state, beside `found`, `wait` and `charged`, which each algorithm has. */
  readonly state: readonly string[];
  /** Functions over the local variables, for the blocks. */
  readonly helpers: string;
  /** Reads the state, and sets `found` to the code of the stored format. */
  readonly open: string;
  /** Sets `wait` for `cost` units. */
  readonly wait: string;
  /** Charges `cost` units of a request that is `refused` or not. Sets `stamp`, `position`, and `charged` to true. */
  readonly charge: string;
  /** Raises `wait` to the time until the latest units that are granted already. */
  readonly turn?: string;
  /** Runs before a charge. Gives up the quota that would come back unused until `due`, the time of the charge. */
  readonly skip?: string;
  /** Runs after a charge. Moves the charge to `due`, the latest time at which its units are used, and sets `stamp`. */
  readonly postpone?: string;
  /** Runs for each request that is refused. */
  readonly refuse?: string;
  /** Sets `used` and `reset`. */
  readonly result: string;
  /** Stores what was charged if `charged`, or else which entries have expired. */
  readonly save: string;
  /** Refunds up to `units` units of the charge `stamp`, `position`, and stores the state. */
  readonly refund: string;
}

/** One way of counting, implemented twice: as blocks of Lua, and in memory. An operation composes the algorithms. */
export interface LimitAlgorithm {
  /** Identifies the algorithm in the arguments of a script. */
  readonly code: string;
  readonly lua: AlgorithmLua;
  open(memory: Keyspace, key: string, now: number, numbers: PolicyNumbers): PolicyState;
}
