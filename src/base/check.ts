import { type Duration, durationMs, MAX_DURATION_MS } from './duration.ts';
import { ConfigError } from './errors.ts';
import { FOREIGN_OPTIONS } from './foreign-options.ts';

/** The options of a call that may be given, and what options of other packages are called there. */
export interface OptionNames {
  readonly known: readonly string[];
  readonly elsewhere?: Readonly<Record<string, string>>;
}

/**
 * Reads the options object of one public function: each method takes one option, checks it and gives its
 * default. `where` is how the user wrote the call (`kit.rateLimit`), so that the error points there.
 */
export class OptionReader {
  readonly where: string;
  readonly #options: Readonly<Record<string, unknown>>;

  /** `elsewhere`: what options of the packages that this replaces are called here. */
  constructor(
    where: string,
    options: unknown,
    known: readonly string[],
    elsewhere: Readonly<Record<string, string>> = {},
  ) {
    this.where = where;
    this.#options = optionsObject(where, options);
    const unknown = unknownOptions(where, this.#options, { known, elsewhere });
    if (unknown.length > 0) throw new ConfigError(unknown);
  }

  value(name: string): unknown {
    return this.#options[name];
  }

  has(name: string): boolean {
    return this.#options[name] !== undefined;
  }

  /** A ConfigError about one option of this call; `remedy` says what to write instead. */
  error(name: string, remedy: string): ConfigError {
    return new ConfigError(
      `${this.where}: option \`${name}\` is ${describe(this.#options[name])}; ${remedy}`,
    );
  }

  /** As `error`, without the value. */
  secretError(name: string, remedy: string): ConfigError {
    return new ConfigError(`${this.where}: option \`${name}\` is not usable; ${remedy}`);
  }

  duration(name: string): number | undefined;
  duration(name: string, fallback: Duration): number;
  duration(name: string, fallback?: Duration): number | undefined {
    const value = this.#given(name, fallback);
    if (value === undefined) return undefined;
    const ms = durationMs(value);
    if (ms !== undefined) return ms;
    throw this.error(
      name,
      `it must be a positive whole number of milliseconds or a string like '250ms', '30s', '5m', '1.5h' or '7d' ` +
        `that comes to one, at most ${MAX_DURATION_MS / 86_400_000} days`,
    );
  }

  integer(name: string, range: { readonly min: number; readonly max: number }): number | undefined {
    const value = this.#options[name];
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isInteger(value) && value >= range.min && value <= range.max) {
      return value;
    }
    throw this.error(name, `it must be a whole number from ${range.min} to ${range.max}`);
  }

  requiredInteger(name: string, range: { readonly min: number; readonly max: number }): number {
    const value = this.integer(name, range);
    if (value === undefined) throw this.error(name, 'it is required');
    return value;
  }

  requiredDuration(name: string): number {
    const value = this.duration(name);
    if (value === undefined) throw this.error(name, `it is required, for example '1m'`);
    return value;
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.#given(name, fallback);
    if (typeof value === 'boolean') return value;
    throw this.error(name, 'it must be true or false');
  }

  string(name: string): string | undefined {
    const value = this.#options[name];
    if (value === undefined || (typeof value === 'string' && value !== '')) return value;
    throw this.error(name, 'it must be a string that is not empty');
  }

  /** As `string`, without showing the value. */
  secret(name: string): string | undefined {
    const value = this.#options[name];
    if (value === undefined || (typeof value === 'string' && value !== '')) return value;
    throw this.secretError(name, 'it must be a string that is not empty');
  }

  oneOf<const Choice>(name: string, choices: readonly Choice[], fallback: Choice): Choice {
    const value = this.#given(name, fallback);
    const choice = choices.find((candidate) => candidate === value);
    if (choice !== undefined) return choice;
    const named = choices.filter((each) => each !== undefined);
    throw this.error(name, `it must be one of ${named.map(describe).join(', ')}`);
  }

  /** A callback; its parameters are the caller's business and cannot be checked. */
  callback<Callback extends (...args: never[]) => unknown>(name: string): Callback | undefined {
    const value = this.#options[name];
    if (value === undefined || typeof value === 'function') return value as Callback | undefined;
    throw this.error(name, 'it must be a function');
  }

  /** Only undefined means "not given"; null is a value, and a wrong one. */
  #given(name: string, fallback: unknown): unknown {
    const value = this.#options[name];
    return value === undefined ? fallback : value;
  }
}

export function optionsObject(where: string, options: unknown): Readonly<Record<string, unknown>> {
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) {
    return options as Readonly<Record<string, unknown>>;
  }
  throw new ConfigError(`${where}: options must be an object, got ${describe(options)}`);
}

/** What is wrong with the names of the options that are given. */
export function unknownOptions(
  where: string,
  options: Readonly<Record<string, unknown>>,
  { known, elsewhere = {} }: OptionNames,
): readonly string[] {
  const names = Object.keys(options).filter((name) => options[name] !== undefined && !known.includes(name));
  return names.map((name) => {
    const tables = [elsewhere, FOREIGN_OPTIONS];
    const hint = tables.find((table) => Object.hasOwn(table, name))?.[name];
    return `${where}: unknown option \`${name}\`; ${hint ?? hintAt(name, 'options', known)}`;
  });
}

/** What may have been meant by a name that is not known. */
export function hintAt(name: string, what: string, known: readonly string[]): string {
  const distances = known.map((candidate) => distance(name.toLowerCase(), candidate.toLowerCase()));
  const least = Math.min(...distances);
  const close = known[distances.indexOf(least)] ?? '';
  return least <= 2 && least < Math.max(name.length, close.length)
    ? `did you mean \`${close}\`?`
    : `known ${what}: ${known.join(', ')}`;
}

/** A value as it may stand in an error message: short, never a whole object, and a URL without its password. */
export function describe(value: unknown): string {
  if (typeof value === 'string') {
    const text = withoutCredentials(value);
    return text.length > 60 ? `'${text.slice(0, 57)}...'` : `'${text}'`;
  }
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

/** A URL ends up in any option by mistake, with a password that may hold every character, `@` too. */
function withoutCredentials(text: string): string {
  const colon = text.indexOf(':');
  const at = text.lastIndexOf('@');
  if (colon === -1 || at < colon) return text;
  const start = text.startsWith('//', colon + 1) ? colon + 3 : 0;
  return `${text.slice(0, start)}***${text.slice(at)}`;
}

/** How many typing mistakes lie between two names (Levenshtein). */
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
