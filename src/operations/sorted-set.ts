/* How the twins keep a sorted set: a JSON array of [score, member], sorted as Redis sorts. */

export type SortedEntry = readonly [score: number, member: string];

/** Undefined for what is none; empty where nothing is kept. */
export function parseSortedSet(value: Buffer | undefined): readonly SortedEntry[] | undefined {
  if (value === undefined) return [];
  try {
    const entries: unknown = JSON.parse(value.toString());
    return Array.isArray(entries) ? (entries as readonly SortedEntry[]) : undefined;
  } catch {
    return undefined;
  }
}

export function packSortedSet(entries: readonly SortedEntry[]): Buffer {
  const sorted = [...entries].sort(([a, one], [b, other]) => a - b || (one < other ? -1 : 1));
  return Buffer.from(JSON.stringify(sorted));
}
