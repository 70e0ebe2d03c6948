import { parseJson } from '../../base/json.ts';
import type { Lifetime } from '../store/entry.ts';
import type { RememberSettings } from './remember-options.ts';

/** The value of a JSON text, parsed for each caller, so that callers cannot change the values of each other. */
export function parsed(text: string | undefined): unknown {
  return text === undefined || text === '' ? undefined : JSON.parse(text);
}

/** The lifetime of a new value, shortened at random by `jitter`. */
export function valueLifetime(
  ttlMs: number,
  { jitter, staleWhileRevalidate, staleIfError }: RememberSettings,
): Lifetime {
  return {
    freshMs: Math.max(1, Math.round(ttlMs * (1 - jitter * Math.random()))),
    staleWhileRevalidateMs: staleWhileRevalidate,
    staleIfErrorMs: staleIfError,
    ageMs: 0,
    isStrict: false,
    validatableMs: 0,
  };
}

/** The JSON text in a stored body; undefined for a body that is not JSON. */
export function jsonTextIn(body: Buffer): string | undefined {
  const text = body.toString();
  return parseJson(text) === undefined ? undefined : text;
}
