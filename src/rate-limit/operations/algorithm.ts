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

/** The count of one identity under one policy, at one moment. */
export interface PolicyState {
  readonly found: StoredFormat;
  /** Units that count against the limit now. */
  used(): number;
  /** Milliseconds until `cost` units fit: 0 when they fit now, -1 when they never will. */
  waitMs(cost: number): number;
  /** Milliseconds until more quota comes back; 0 when nothing is used. */
  resetMs(): number;
  /**
   * Counts the units even if they do not fit. Units of a refused request count only up to a full quota, so that a flood
   * of refused requests costs no more memory and no longer wait than a full quota.
   */
  charge(units: number, isRefused: boolean): Charge;
  /** Refunds up to `units` units of a charge, as far as they still count. */
  refund(charge: Charge, units: number): void;
  /** Called instead of `charge` for a request that is not charged, except by a peek. */
  visit(isRefused: boolean): void;
}

/**
 * One way of counting, implemented twice: the Lua fragment defines a table of functions over a state, and the in-memory
 * implementation has the same functions as methods. An operation composes the algorithms of its policies.
 */
export interface LimitAlgorithm {
  /** Identifies the algorithm in the arguments of a script. */
  readonly code: string;
  /** Defines `algorithms['<code>']` = { open, used, wait_ms, reset_ms, charge, refund, visit }. `visit` may return a new wait. */
  readonly lua: string;
  open(memory: Keyspace, key: string, now: number, numbers: PolicyNumbers): PolicyState;
}
