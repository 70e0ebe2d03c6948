import { createSecureContext, type ConnectionOptions as TlsOptions } from 'node:tls';
import { asError, ConnectionError } from '../base/errors.ts';
import type { OptionReader } from '../base/option-reader.ts';

/** A password, or a function that returns the current one, such as a token that expires. */
export type Password = string | (() => string | Promise<string>);

/** The credentials, TLS options and name that the kit uses on each connection. */
export interface Access {
  readonly username: string | undefined;
  readonly password: Password | undefined;
  readonly tls: boolean | TlsOptions;
  /** The IP version of addresses; 0 means both. */
  readonly family: 0 | 4 | 6;
  /** The name of the connections in CLIENT LIST. */
  readonly clientName: string;
}

/** The names of the options that `readAccess` reads. */
export const ACCESS_OPTION_NAMES = ['username', 'password', 'tls', 'family', 'clientName'] as const;

export function readAccess(reader: OptionReader, clientName: string): Access {
  return {
    username: reader.secret('username'),
    password: passwordOption(reader),
    tls: tlsOption(reader),
    family: reader.oneOf('family', [0, 4, 6], 0),
    clientName: clientNameOption(reader) ?? clientName,
  };
}

export function passwordOption(reader: OptionReader, name = 'password'): Password | undefined {
  const value = reader.value(name);
  if (value === undefined || (typeof value === 'string' && value !== '')) return value;
  if (typeof value === 'function') return value as () => string | Promise<string>;
  throw reader.secretError(name, 'it must be a string that is not empty, or a function that returns one');
}

export function tlsOption(reader: OptionReader, name = 'tls'): boolean | TlsOptions {
  const tls = reader.value(name) ?? false;
  if (typeof tls === 'boolean') return tls;
  if (typeof tls !== 'object' || Array.isArray(tls)) {
    throw reader.secretError(name, 'it must be true, false or the options of tls.connect');
  }
  return loadedTlsOptions(reader, name, tls as TlsOptions);
}

/**
 * Loads the certificates and the key once, so that mistakes are found at construction. The key is then in no object that
 * a log could print.
 */
function loadedTlsOptions(reader: OptionReader, option: string, options: TlsOptions): TlsOptions {
  for (const name of ['ca', 'cert', 'key'] as const) {
    const texts = [options[name]].flat().filter((value) => typeof value === 'string');
    if (texts.every((text) => text.includes('-----BEGIN'))) continue;
    throw reader.secretError(
      option,
      `its \`${name}\` is not PEM text; pass the content of the file, which fs.readFileSync() returns`,
    );
  }
  const { key, passphrase, pfx, ...rest } = options;
  try {
    return { ...rest, secureContext: options.secureContext ?? createSecureContext(options) };
  } catch (error) {
    throw reader.secretError(option, `Node.js rejects it: ${asError(error).message}`);
  }
}

function clientNameOption(reader: OptionReader): string | undefined {
  const name = reader.string('clientName');
  if (name === undefined || isClientName(name)) return name;
  throw reader.error('clientName', 'Redis allows visible ASCII characters only, and no spaces');
}

export function isClientName(name: string): boolean {
  return /^[!-~]+$/.test(name);
}

/** Shorter than the 5 s of `kit.ready()`, whose error then has the reason. */
const PASSWORD_TIMEOUT_MS = 4_000;

/** Returns the password, or what the function returns now. Rejects with a ConnectionError that contains no password. */
export async function currentPassword(password: Password): Promise<string> {
  if (typeof password === 'string') return password;
  const current: unknown = await withinTime(password);
  if (typeof current === 'string' && current !== '') return current;
  const returned = current === '' ? 'an empty string' : `a value of type ${typeof current}`;
  throw new ConnectionError(`the function \`password\` returned ${returned}; it must return a string`);
}

async function withinTime(ask: () => string | Promise<string>): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new ConnectionError(
      `the function \`password\` did not return within ${PASSWORD_TIMEOUT_MS} ms`,
    );
    timer = setTimeout(reject, PASSWORD_TIMEOUT_MS, error).unref();
  });
  // A promise of its own, since `ask` may throw or return a promise.
  const answer = new Promise<unknown>((resolve) => resolve(ask())).catch((thrown: unknown) => {
    // A value that is no error may be the password itself.
    const cause = thrown instanceof Error ? thrown : new Error(`it threw a value of type ${typeof thrown}`);
    throw new ConnectionError(`the function \`password\` failed: ${cause.message}`, { cause });
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
