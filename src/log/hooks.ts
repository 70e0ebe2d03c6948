import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';

/**
 * A step of a chain. `next()` runs the rest of the chain and resolves to its result; the hook may change `context`
 * before, and returns the result or another one. A hook that does not call `next()` ends the chain.
 */
export type Hook<Context, Result> = (context: Context, next: () => Promise<Result>) => Promise<Result>;

/** Runs the hooks in their order, and `last` behind them. `where` names the hooks in errors. */
export function runHooks<Context, Result>(
  where: string,
  hooks: readonly Hook<Context, Result>[],
  context: Context,
  last: () => Promise<Result>,
): Promise<Result> {
  async function runFrom(index: number): Promise<Result> {
    const hook = hooks[index];
    if (hook === undefined) return last();
    let rest: Promise<Result> | undefined;
    const result = await hook(context, () => {
      if (rest !== undefined) return Promise.reject(hookError(`${where}[${index}] called next() twice`));
      rest = runFrom(index + 1);
      // A hook that does not wait for its rest must not cause an unhandled rejection.
      rest.catch(() => undefined);
      return rest;
    });
    // A hook that forgets to return the result of its rest would hide a failure, or say that nothing was stored.
    if (result === undefined && rest !== undefined && (await rest) !== undefined) {
      throw hookError(
        `${where}[${index}] called next() and returned undefined; it must return the result of next()`,
      );
    }
    return result;
  }
  return runFrom(0);
}

export function checkHooks<Hooks extends readonly unknown[]>(
  value: unknown,
  error: (remedy: string) => Error,
): Hooks | undefined {
  if (value === undefined) return undefined;
  if (Array.isArray(value) && value.every((hook) => typeof hook === 'function')) {
    return [...value] as readonly unknown[] as Hooks;
  }
  throw error('it must be an array of functions');
}

export function wrongHookResult(where: string, value: unknown): ConfigError {
  return hookError(`${where} returned ${describe(value)}; it must return the array of entries`);
}

function hookError(message: string): ConfigError {
  return new ConfigError(message);
}
