import { type OptionNames, OptionReader, optionsObject, unknownOptions } from './check.ts';
import { ConfigError, RedisKitError } from './errors.ts';

/** One function for each setting, which reads the options that the setting is made of. */
type Readers = Readonly<Record<string, () => unknown>>;

type Settings<Read extends Readers> = { readonly [Name in keyof Read]: ReturnType<Read[Name]> };

/** Reads all settings of one call, and throws one ConfigError for everything that is wrong with it. */
export function readSettings<Read extends Readers>(
  where: string,
  options: unknown,
  names: OptionNames,
  readersOf: (reader: OptionReader) => Read,
): Settings<Read> {
  const given = optionsObject(where, options);
  const unknown = unknownOptions(where, given, names);
  const known =
    unknown.length === 0 ? given : Object.fromEntries(names.known.map((name) => [name, given[name]]));
  return collectSettings(readersOf(new OptionReader(where, known, names.known)), unknown);
}

/** Calls all readers, and throws one ConfigError for all that throw one, after the problems that are known before. */
export function collectSettings<Read extends Readers>(
  readers: Read,
  knownProblems: readonly string[] = [],
): Settings<Read> {
  const problems = new Set(knownProblems);
  const settings: { [Name in keyof Read]?: unknown } = {};
  for (const name in readers) {
    try {
      settings[name] = readers[name]?.();
    } catch (error) {
      // Several settings may be made of one option, so the same problem may come twice.
      for (const problem of problemsOf(error)) problems.add(problem);
    }
  }
  if (problems.size > 0) throw new ConfigError([...problems]);
  return Object.freeze(settings as Settings<Read>);
}

/** The same for the items of a list. */
export function collectItems<Item>(readers: readonly (() => Item)[]): readonly Item[] {
  return Object.values(collectSettings(Object.fromEntries(readers.entries())));
}

function problemsOf(error: unknown): readonly string[] {
  if (error instanceof ConfigError) return error.problems;
  if (error instanceof RedisKitError && error.code === 'ERR_REDIS_KIT_CONFIG') return [error.message];
  throw error;
}
