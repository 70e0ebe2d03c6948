import { ENTRY_FORMAT } from './operations/stored-entry.ts';

/** The message about a new entry, on the channel of its log. */
export interface Announcement {
  /** The cursor of the entry before; '0-0' if there is none. */
  readonly previous: string;
  readonly cursor: string;
  /** The event as JSON. */
  readonly text: string;
}

/** The message as the script of `append` builds it. */
export function announcementOf({ previous, cursor, text }: Announcement): string {
  return `${ENTRY_FORMAT} ${previous} ${cursor} ${text}`;
}

const MESSAGE = new RegExp(`^${ENTRY_FORMAT} (\\d+-\\d+) (\\d+-\\d+) `);

/** Parses a message; undefined for one of another version or origin. */
export function parseAnnouncement(message: string): Announcement | undefined {
  const [head, previous, cursor] = MESSAGE.exec(message) ?? [];
  if (head === undefined || previous === undefined || cursor === undefined) return undefined;
  return { previous, cursor, text: message.slice(head.length) };
}
