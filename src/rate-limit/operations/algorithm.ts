import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';

/** The numbers of one policy, as both algorithms take them: see each algorithm for what they mean. */
export type PolicyNumbers = readonly [limit: number, span: number, rate: number];

/** Where a charge was written down, for its refund. What the numbers mean is the algorithm's. */
export interface Charge {
  /** 0: there is nothing to give back; what a refused try was charged stays charged. */
  readonly stamp: number;
  readonly position: number;
}

/** What one policy says of one identity at one moment. */
export interface PolicyState {
  readonly found: StoredFormat;
  /** Units that count against the limit now. */
  used(): number;
  /** Milliseconds until `cost` units fit: 0 when they fit now, -1 when they never will. */
  waitFor(cost: number): number;
  /** Milliseconds until `remaining` grows; 0 when nothing is used. */
  untilMore(): number;
  /**
   * Counts the units, whether they fit or not, and answers by what they can be given back. Those of a
   * refused try are counted only as far as they can still matter, so that a flood of them costs no more memory and
   * no longer wait than a full quota.
   */
  charge(units: number, isRefused: boolean): Charge;
  /** Gives back what is still owed of a charge. */
  refund(charge: Charge, units: number): void;
  /** Writes what evaluation alone has learnt (expired entries), so that the next call need not learn it again. */
  settle(): void;
}

/**
 * One way of counting, told twice. The Lua fragment defines a table of functions over a state; the twin gives the
 * same as methods. An operation over several policies composes them.
 */
export interface LimitAlgorithm {
  /** How a script's arguments name it. */
  readonly code: string;
  /** Defines `algorithms['<code>']` = { open, used, wait_for, until_more, charge, refund, settle }. */
  readonly lua: string;
  open(memory: Keyspace, key: string, now: number, numbers: PolicyNumbers): PolicyState;
}
