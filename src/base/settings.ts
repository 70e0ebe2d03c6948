import { ConfigError } from './errors.ts';
import { type OptionNames, OptionReader, optionsObject, unknownOptions } from './option-reader.ts';

/** One function per setting, which reads the options that the setting depends on. */
type Readers = Readonly<Record<string, () => unknown>>;

type Settings<Read extends Readers> = { readonly [Name in keyof Read]: ReturnType<Read[Name]> };

/** Reads all settings of one call. Throws one ConfigError with all problems. */
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

/** Calls all readers. Throws one ConfigError with `knownProblems` and the problems that the readers throw. */
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
      // `problems` is a set, since settings that depend on the same option report the same problem.
      for (const problem of problemsOf(error)) problems.add(problem);
    }
  }
  if (problems.size > 0) throw new ConfigError([...problems]);
  return Object.freeze(settings as Settings<Read>);
}

/** Calls all readers of a list. Throws one ConfigError with all problems. */
export function collectItems<Item>(readers: readonly (() => Item)[]): readonly Item[] {
  return Object.values(collectSettings(Object.fromEntries(readers.entries())));
}

function problemsOf(error: unknown): readonly string[] {
  if (error instanceof ConfigError) return error.problems;
  throw error;
}
