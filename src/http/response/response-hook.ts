import type { OutgoingHttpHeader, ServerResponse } from 'node:http';

/** Hooks run in this order, whatever the order in which middleware registered them. */
export const PHASES = ['capture', 'session', 'idempotency', 'lock'] as const;

export type Phase = (typeof PHASES)[number];

/**
 * Lets a feature act before a response is sent. A hook that returns a promise delays the response, so it must settle within
 * the request's deadline; one that returns nothing costs no turn of the event loop. If a hook throws or rejects, a response
 * that has not begun becomes a 503. Headers that a hook sets after it has waited are discarded: they are the handler's.
 */
export interface ResponseHook {
  readonly phase: Phase;
  /** Receives each chunk of the body as the handler wrote it. */
  chunk?(chunk: Buffer): void;
  /** Called before the headers are sent, with the first write or the end. */
  beforeHeaders?(): undefined | Promise<void>;
  /**
   * Called once, before the last bytes are sent. `hasBegun`: the headers were sent with an earlier write. `ranOn`: the handler
   * continued after `beforeHeaders`, even if the headers were withheld.
   */
  beforeEnd?(hasBegun: boolean, ranOn: boolean): undefined | Promise<void>;
  /** Called when the head is about to be sent, possibly that of a replacement. Headers that are set here are sent. */
  headLeaves?(): void;
  /**
   * Called when Node has created the head and no byte of it was sent: the head of the handler's response, or of a replacement
   * that a hook provided. `late` has the changes that middleware above made while the head was sent.
   */
  headLeft?(late: LateHeaders): void;
  /** Called in place of `headLeft` if the handler's response is not sent: a hook failed, or Node rejected the response. */
  notSent?(): void;
  /** No byte that would complete the response is sent before `beforeEnd` has finished. */
  readonly withholdsLastBytes?: boolean;
  /** `beforeEnd` waits for the handler's `end()`, even if a refusal replaces what the handler streams. */
  readonly outlastsRefusal?: boolean;
  /**
   * Returns a replacement for the handler's response, if the hook has one. Called when the head is about to be sent, and again
   * at the end if nothing was sent. The hooks still receive the handler's response, which is then discarded.
   */
  instead?(): Replacement | undefined;
  /** Called when the connection has closed and `end()` was not called. It may still be called. */
  closedEarly?(): void;
  /**
   * Called when the handler calls `destroy()` instead of `end()`, as `stream.pipeline` does when its source fails. Node does
   * not call `destroy()` when a client disconnects.
   */
  abandoned?(): void;
}

/** Changed headers by their names in lower case; undefined for a header that was removed. */
export type LateHeaders = ReadonlyMap<string, OutgoingHttpHeader | undefined>;

/** Sends a response that has the handler's status and headers; `reset` removes the headers that were set below the kit. */
export type Replacement = (res: ServerResponse, reset: () => void) => void;
