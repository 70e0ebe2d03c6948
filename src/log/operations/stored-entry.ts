/** An entry of a log as it is stored: a stream entry with one field, whose name is the version of the format. */
export interface StoredEntry {
  readonly cursor: string;
  /** `'1'`; empty for an entry that no version of the kit has written. */
  readonly format: string;
  /** The event as JSON. */
  readonly text: string;
}

/** The format that this version of the kit writes and reads. */
export const ENTRY_FORMAT = '1';

/** How long a cleared log is kept, so that its cursors do not begin again. */
export const CLEARED_TTL_MS = 60_000;
