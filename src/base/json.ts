import { ConfigError } from './errors.ts';

/** A value that JSON can represent. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

/**
 * The JSON text of a value, in which every lone surrogate is escaped. Throws a ConfigError for a value that JSON cannot
 * represent: undefined, a function, a symbol, a BigInt, or an object with a cycle. `what` names the value.
 */
export function jsonOf(what: string, value: unknown): string {
  const text = jsonIfDefined(what, value);
  if (text !== undefined) return text;
  throw new ConfigError(`${what} is ${typeof value}, which JSON cannot represent; delete it or use null`);
}

/**
 * The JSON text of a value, or undefined for undefined, a function and a symbol. Throws a ConfigError for a BigInt and
 * for an object with a cycle. `what` names the value.
 */
export function jsonIfDefined(what: string, value: unknown): string | undefined {
  try {
    return JSON.stringify(value) as string | undefined;
  } catch (error) {
    throw new ConfigError(`${what} cannot be stored as JSON: ${messageOf(error)}`, { cause: error });
  }
}

/** The value of a JSON text; undefined for text that is no JSON, which no JSON text has as its value. */
export function parseJson(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

/** Freezes a parsed value with all its parts, so that several listeners can share it. */
export function frozenJson<Value>(value: Value): Value {
  const parts: unknown[] = [value];
  // Without recursion: a client can nest arrays deeper than the stack.
  for (const part of parts) {
    if (typeof part !== 'object' || part === null) continue;
    Object.freeze(part);
    for (const each of Object.values(part)) parts.push(each);
  }
  return value;
}

/** The first line of the message: V8 describes a cycle on several lines. */
function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split('\n', 1)[0] ?? message;
}
