/** The directives of one response. Names are asked for in lower case. */
export interface CacheControl {
  /** Whether the directive is there, whatever its argument. */
  has(name: string): boolean;
  /** The argument as delta-seconds; undefined without the directive. Who gets 'invalid' takes the response for stale. */
  seconds(name: string): number | 'invalid' | undefined;
  /**
   * The field names of `private="a, b"` and `no-cache="a"`, in lower case; undefined without the directive. An empty
   * list: the directive stands for the whole response, or nobody can tell for which part.
   */
  fields(name: string): readonly string[] | undefined;
}

/** The greatest value that we tell apart; RFC 9111, section 1.2.2, allows the greatest "conveniently represented". */
export const MAX_SECONDS: number = 2 ** 31 - 1;

/** What forbids or narrows the use of a response: it counts also where it stands in text that cannot be parsed. */
const RESTRICTIVE: ReadonlySet<string> = new Set([
  'no-store',
  'private',
  'no-cache',
  'must-revalidate',
  'proxy-revalidate',
]);

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const QUOTED = String.raw`"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*)"`;

/**
 * One member of the list with what ends it, or else text that is none: up to the next comma, but when a quote stands
 * in it, all the rest, since nobody can say which commas are outside of quotes.
 */
const MEMBER = new RegExp(
  `[ \\t]*(?:(${TOKEN})(?:=(?:(${TOKEN})|${QUOTED}))?[ \\t]*)?(?:[,\\n]|$)|([^,\\n"]*[,\\n]|[^]+)`,
  'g',
);

const WORD = new RegExp(TOKEN, 'g');
const LIST_MEMBER = new RegExp(`^[ \\t]*(?:(${TOKEN})[ \\t]*)?$`);

/** Reads Cache-Control: `#( token [ "=" ( token / quoted-string ) ] )` (RFC 9111, section 5.2; RFC 9110, 5.6). */
export function parseCacheControl(value: number | string | readonly string[] | undefined): CacheControl {
  // Lines make one list (RFC 9110, section 5.3). No quoted-string has a line break in it, so none swallows the next line.
  const text = typeof value === 'object' ? value.join('\n') : String(value ?? '');
  const found = new Map<string, (string | undefined)[]>();
  const unparsed = new Set<string>();
  for (const [, name, token, quoted, other] of text.matchAll(MEMBER)) {
    for (const [word] of other?.matchAll(WORD) ?? []) unparsed.add(word.toLowerCase());
    if (name === undefined) continue;
    const key = name.toLowerCase();
    const values = found.get(key) ?? [];
    values.push(token ?? quoted?.replace(/\\(.)/g, '$1'));
    found.set(key, values);
  }

  const has = (name: string) => found.has(name) || (RESTRICTIVE.has(name) && unparsed.has(name));

  return {
    has,
    seconds(name) {
      if (unparsed.has(name)) return 'invalid';
      const values = found.get(name)?.map(deltaSeconds);
      // Of values that differ the first may be used, or none (RFC 9111, section 4.2.1); none is safe.
      return values?.every((each) => each === values[0]) === false ? 'invalid' : values?.[0];
    },
    fields(name) {
      if (!has(name)) return undefined;
      const lists = (found.get(name) ?? []).map(fieldNames);
      const isWhole = unparsed.has(name) || lists.some((list) => list.length === 0);
      return isWhole ? [] : [...new Set(lists.flat())];
    },
  };
}

/** The names of `#field-name` in lower case (RFC 9111, section 5.2.2.4); none when one of them is no name. */
export function fieldNames(list: string | undefined): readonly string[] {
  const names: string[] = [];
  for (const member of (list ?? '').split(',')) {
    const match = LIST_MEMBER.exec(member);
    if (match === null) return [];
    if (match[1] !== undefined) names.push(match[1].toLowerCase());
  }
  return names;
}

/** Both forms of an argument are accepted (RFC 9111, section 5.2), but digits only (section 1.2.2). */
function deltaSeconds(argument: string | undefined): number | 'invalid' {
  if (argument === undefined || !/^\d+$/.test(argument)) return 'invalid';
  return Math.min(Number(argument), MAX_SECONDS);
}
