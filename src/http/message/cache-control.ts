/** The directives of one response. Names are in lower case. */
export interface CacheControl {
  /** Whether the directive is present, with any argument. */
  has(name: string): boolean;
  /** The argument as delta-seconds; undefined without the directive. A response with an 'invalid' argument is stale. */
  seconds(name: string): number | 'invalid' | undefined;
  /**
   * The field names of `private="a, b"` and `no-cache="a"`, in lower case; undefined without the directive. An empty list
   * means that the directive applies to the whole response, or that its argument is unreadable.
   */
  fields(name: string): readonly string[] | undefined;
}

/** The largest value of delta-seconds; larger values are replaced with it (RFC 9111, section 1.2.2). */
export const MAX_SECONDS: number = 2 ** 31 - 1;

/** Directives that restrict a cache. They are obeyed even inside text that cannot be parsed. */
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
 * A list member with its separator, or else invalid text up to the next comma. Invalid text with a quote extends to the
 * end of the field, since it is unknown which commas are quoted.
 */
const MEMBER = new RegExp(
  `[ \\t]*(?:(${TOKEN})(?:=(?:(${TOKEN})|${QUOTED}))?[ \\t]*)?(?:[,\\n]|$)|([^,\\n"]*[,\\n]|[^]+)`,
  'g',
);

const WORD = new RegExp(TOKEN, 'g');
const LIST_MEMBER = new RegExp(`^[ \\t]*(?:(${TOKEN})[ \\t]*)?$`);

/** Parses Cache-Control: `#( token [ "=" ( token / quoted-string ) ] )` (RFC 9111, section 5.2; RFC 9110, 5.6). */
export function parseCacheControl(value: number | string | readonly string[] | undefined): CacheControl {
  // Several lines form one list (RFC 9110, section 5.3). A line break separates them, which no quoted string contains.
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
      // If the values differ, a cache may use the first value or treat the response as stale (RFC 9111, section 4.2.1).
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

/** The field names of a list in lower case (RFC 9111, section 5.2.2.4); empty if any of the names is invalid. */
export function fieldNames(list: string | undefined): readonly string[] {
  const names: string[] = [];
  for (const member of (list ?? '').split(',')) {
    const match = LIST_MEMBER.exec(member);
    if (match === null) return [];
    if (match[1] !== undefined) names.push(match[1].toLowerCase());
  }
  return names;
}

/** Parses an argument, from a token or a quoted-string (RFC 9111, section 5.2), as digits only (section 1.2.2). */
function deltaSeconds(argument: string | undefined): number | 'invalid' {
  if (argument === undefined || !/^\d+$/.test(argument)) return 'invalid';
  return Math.min(Number(argument), MAX_SECONDS);
}
