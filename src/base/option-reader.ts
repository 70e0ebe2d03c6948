import { describe, suggestion } from './describe.ts';
import { type Duration, durationMs, MAX_DURATION_MS } from './duration.ts';
import { ConfigError } from './errors.ts';
import { FOREIGN_OPTIONS } from './foreign-options.ts';
import { isThenable } from './thenable.ts';

/** The option names that a call accepts. */
export interface OptionNames {
  readonly known: readonly string[];
  /** Hints for option names of other packages, by name. */
  readonly elsewhere?: Readonly<Record<string, string>>;
}

/**
 * Reads the options of one public function: each method reads one option, checks it and applies its default. `where` is
 * the call as the user wrote it (`kit.rateLimit`), for error messages.
 */
export class OptionReader {
  readonly where: string;
  readonly #options: Readonly<Record<string, unknown>>;

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

  /** A ConfigError about one option; `remedy` says what to write instead. */
  error(name: string, remedy: string): ConfigError {
    return new ConfigError(
      `${this.where}: option \`${name}\` is ${describe(this.#options[name])}; ${remedy}`,
    );
  }

  /** Like `error`, for an option whose value may be a secret. */
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

  /** Like `string`, for an option whose value may be a secret. */
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

  /** Checks only that the option is a function: parameter types are unknown at run time. */
  callback<Callback extends (...args: never[]) => unknown>(name: string): Callback | undefined {
    const value = this.#options[name];
    if (value === undefined || typeof value === 'function') return value as Callback | undefined;
    throw this.error(name, 'it must be a function');
  }

  abortSignal(name: string): AbortSignal | undefined {
    const value = this.#options[name];
    if (value === undefined || value instanceof AbortSignal) return value;
    throw this.error(name, 'it must be an AbortSignal');
  }

  /** Only `undefined` means that an option is absent; `null` is an invalid value. */
  #given(name: string, fallback: unknown): unknown {
    const value = this.#options[name];
    return value === undefined ? fallback : value;
  }
}

export function optionsObject(where: string, options: unknown): Readonly<Record<string, unknown>> {
  if (typeof options === 'object' && options !== null && !Array.isArray(options) && !isThenable(options)) {
    return options as Readonly<Record<string, unknown>>;
  }
  throw new ConfigError(`${where}: options must be an object, got ${describe(options)}`);
}

/** Returns one problem per option with an unknown name. */
export function unknownOptions(
  where: string,
  options: Readonly<Record<string, unknown>>,
  { known, elsewhere = {} }: OptionNames,
): readonly string[] {
  const names = Object.keys(options).filter((name) => options[name] !== undefined && !known.includes(name));
  return names.map((name) => {
    const tables = [elsewhere, FOREIGN_OPTIONS];
    const hint = tables.find((table) => Object.hasOwn(table, name))?.[name];
    return `${where}: unknown option \`${name}\`; ${hint ?? suggestion(name, 'options', known)}`;
  });
}
