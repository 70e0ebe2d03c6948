import { isThenable } from './thenable.ts';

/**
 * Describes a value for an error message: briefly, without the content of an object or the credentials of a URL. The
 * rejection of a promise is handled, since the error takes its place: no one receives the promise, and an unhandled
 * rejection would end the process.
 */
export function describe(value: unknown): string {
  if (typeof value === 'string') {
    const text = withoutCredentials(value);
    return text.length > 60 ? `'${text.slice(0, 57)}...'` : `'${text}'`;
  }
  if (typeof value === 'function') return 'a function';
  if (isThenable(value)) {
    Promise.resolve(value).catch(() => undefined);
    return 'a promise';
  }
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

/**
 * Hides the credentials of a URL, which may be in any option by mistake. The credentials end at the last `@`, since a
 * password may contain any character, even `@`.
 */
function withoutCredentials(text: string): string {
  const colon = text.indexOf(':');
  const at = text.lastIndexOf('@');
  if (colon === -1 || at < colon) return text;
  const start = text.startsWith('//', colon + 1) ? colon + 3 : 0;
  return `${text.slice(0, start)}***${text.slice(at)}`;
}

/** The end of an error message about an unknown name: the name that was probably meant, or all known names. */
export function suggestion(name: string, what: string, known: readonly string[]): string {
  const distances = known.map((candidate) => distance(name.toLowerCase(), candidate.toLowerCase()));
  const least = Math.min(...distances);
  const close = known[distances.indexOf(least)] ?? '';
  return least <= 2 && least < Math.max(name.length, close.length)
    ? `did you mean \`${close}\`?`
    : `known ${what}: ${known.join(', ')}`;
}

/** The Levenshtein distance between two strings. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
