import type { IncomingMessage } from 'node:http';
import { OptionReader } from '../../base/option-reader.ts';
import { readSettings } from '../../base/settings.ts';
import type { Req } from '../../http/middleware.ts';

/** The parts of a request that select the stored response. The response must depend on no other part. */
export interface KeyOptions<Request extends IncomingMessage = Req> {
  /** Whether the host is in the key. Default true; false for an app that responds alike on all its hosts. */
  readonly host?: boolean | undefined;
  /**
   * The parameters in the key: the whole query (default true), none, only those named, or all but the ignored ones. A
   * response may omit more parameters by No-Vary-Search.
   */
  readonly query?: boolean | readonly string[] | { readonly ignore: readonly string[] } | undefined;
  /** The request headers in the key. The Redis key contains only a hash of them. */
  readonly headers?: readonly string[] | undefined;
  /** The cookies in the key. The Redis key contains only a hash of them. */
  readonly cookies?: readonly string[] | undefined;
  /**
   * Returns the part of the key that identifies the session, like `(req) => req.session.userId ?? ''`. A response whose
   * handler read the session is stored only with this option. The Redis key contains only a hash of the result.
   */
  readonly session?: ((req: Request) => string) | undefined;
}

export interface KeySettings {
  readonly custom: ((req: Req) => string | false) | undefined;
  readonly host: boolean;
  readonly query: boolean | { readonly only: ReadonlySet<string> } | { readonly ignore: ReadonlySet<string> };
  /** The names of request headers, in lower case. */
  readonly headers: readonly string[];
  readonly cookies: readonly string[];
  readonly session: ((req: Req) => string) | undefined;
  /** The names of the headers and cookies and whether there is a session, as a text; empty without any of them. */
  readonly secretNames: string;
}

export function resolveKeyOptions(reader: OptionReader): KeySettings {
  const value = reader.value('key');
  const names = { known: ['host', 'query', 'headers', 'cookies', 'session'] };
  const isCustom = typeof value === 'function';
  const settings = readSettings(`${reader.where}: key`, isCustom ? {} : (value ?? {}), names, (key) => ({
    custom: () => (isCustom ? reader.callback<(req: Req) => string | false>('key') : undefined),
    host: () => key.boolean('host', true),
    query: () => queryOption(key),
    headers: () => namesOption(key, 'headers').map((name) => name.toLowerCase()),
    cookies: () => namesOption(key, 'cookies'),
    session: () => key.callback<(req: Req) => string>('session'),
  }));
  return { ...settings, secretNames: secretNamesOf(settings) };
}

function secretNamesOf({ headers, cookies, session }: Omit<KeySettings, 'secretNames'>): string {
  const hasSession = session !== undefined;
  if (headers.length === 0 && cookies.length === 0 && !hasSession) return '';
  return JSON.stringify([headers, cookies, hasSession]);
}

function queryOption(key: OptionReader): KeySettings['query'] {
  const value = key.value('query') ?? true;
  if (typeof value === 'boolean') return value;
  if (Array.isArray(value)) return { only: new Set(namesOption(key, 'query')) };
  if (typeof value !== 'object' || value === null) {
    throw key.error(
      'query',
      `it must be true, false, names to keep like ['page'], or { ignore: ['utm_source'] }`,
    );
  }
  return {
    ignore: new Set(namesOption(new OptionReader(`${key.where}.query`, value, ['ignore']), 'ignore')),
  };
}

/** Reads an option that is an array of names. Default: empty. */
export function namesOption(reader: OptionReader, name: string): readonly string[] {
  const value = reader.value(name) ?? [];
  if (Array.isArray(value) && value.every((each) => typeof each === 'string' && each !== '')) return value;
  throw reader.error(name, 'it must be an array of names');
}
