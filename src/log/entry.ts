import { parseJson } from '../base/json.ts';
import { newerFormat } from '../engine/reply.ts';
import { ENTRY_FORMAT, type StoredEntry } from './operations/stored-entry.ts';

/** An event in its log. */
export interface LogEntry<Event> {
  /** The place of the entry in its log. Cursors of a log are ordered as its entries, and are used only once. */
  readonly cursor: string;
  /** When the event was appended: milliseconds since the epoch, by the server's clock. */
  readonly at: number;
  readonly event: Event;
}

/** Parses a stored entry; undefined for an unreadable one. Throws a StoreError for a newer format. */
export function parseEntry<Event>({ cursor, format, text }: StoredEntry): LogEntry<Event> | undefined {
  if (format !== ENTRY_FORMAT) {
    if (/^[1-9]\d*$/.test(format)) throw newerFormat('log');
    return undefined;
  }
  const event = parseJson(text);
  if (event === undefined) return undefined;
  return { cursor, at: Number(cursor.slice(0, cursor.indexOf('-'))), event: event as Event };
}
