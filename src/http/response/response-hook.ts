import type { OutgoingHttpHeader, ServerResponse } from 'node:http';

/** Hooks run in the order of these phases, and not in the order in which middleware registered them. */
export const PHASES = ['capture', 'session', 'idempotency', 'lock'] as const;

export type Phase = (typeof PHASES)[number];

/**
 * Lets a feature act before a response is sent. A hook that returns a promise delays the response, so it must settle
 * within the request's deadline; one that returns nothing costs no turn of the event loop. If a hook throws or rejects,
 * a response that has not begun becomes a 503. Headers that a hook sets after it has waited are discarded, since the
 * handler has already decided the headers.
 */
export interface ResponseHook {
  readonly phase: Phase;
  /** Receives each chunk of the body as the handler wrote it. */
  chunk?(chunk: Buffer): void;
  /** Called before the headers are sent: on the first write or flush, or on `end()`. */
  beforeHeaders?(): undefined | Promise<void>;
  /**
   * Called once when the handler has ended its response, before the last bytes are sent. `hasBegun`: the headers were
   * sent with an earlier write. `ranOn`: the handler continued after `beforeHeaders`, even if the headers were
   * withheld.
   */
  beforeEnd?(hasBegun: boolean, ranOn: boolean): undefined | Promise<void>;
  /** Called when the head of the response, or of its replacement, is about to be sent. Headers set here are sent. */
  headLeaves?(): void;
  /**
   * Called when Node has created the head, before a byte of it is sent. The head is that of the handler's response, or
   * of a replacement that a hook provided. `late` has the changes that middleware above made while the head was sent.
   */
  headLeft?(late: LateHeaders): void;
  /** Called in place of `headLeft` if the handler's response is not sent: a hook failed, or Node rejected the response. */
  notSent?(): void;
  /** Whether the last bytes, which complete the response, are sent only after `beforeEnd` has finished. */
  readonly withholdsLastBytes?: boolean;
  /** Whether `beforeEnd` waits for the handler's `end()` even if a refusal replaces what the handler streams. */
  readonly outlastsRefusal?: boolean;
  /**
   * Returns a replacement for the handler's response, if the hook has one. Called when the head is about to be sent, and again
   * at the end if nothing was sent. The hooks still receive the handler's response, which is then discarded.
   */
  instead?(): Replacement | undefined;
  /** Called when the connection has closed before `end()` was called. The handler may still call `end()`. */
  closedEarly?(): void;
  /**
   * Called when the handler calls `destroy()` instead of `end()`, as `stream.pipeline` does when its source fails. Node does
   * not call `destroy()` when a client disconnects.
   */
  abandoned?(): void;
}

/** Changed headers by their names in lower case; undefined for a header that was removed. */
export type LateHeaders = ReadonlyMap<string, OutgoingHttpHeader | undefined>;

/** Sends a replacement. `res` has the handler's status and headers; `reset` removes headers set below the kit. */
export type Replacement = (res: ServerResponse, reset: () => void) => void;
