import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { ErrorReply, RESP_TYPES } from 'redis';
import type { RawReply } from '../engine/operation.ts';
import { ReplyError } from '../engine/port.ts';
import { PING_INTERVAL_MS, reconnectDelay, SOCKET_TIMEOUT_MS } from './adapter.ts';

/** What both node-redis adapters share: how a client of ours is set up, and how replies come back. */

export const CONNECT_TIMEOUT_MS = 5_000;

/**
 * Scripts answer in bytes. The timeout is switched off because the connection has its own: node-redis's covers
 * only commands not yet written, and its AbortSignal per command costs a third of the throughput or more.
 */
export const COMMAND_OPTIONS: CommandOptions = {
  typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer },
  timeout: 0,
};

export interface CommandOptions {
  readonly typeMapping: Readonly<Record<number, unknown>>;
  readonly timeout: 0;
}

export function socketOptions(tls: boolean | TlsOptions): SocketOptions {
  return {
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: SOCKET_TIMEOUT_MS,
    // The default strategy gives up for good after a socket timeout.
    reconnectStrategy: reconnectDelay,
    ...(tls === false ? {} : { ...(tls === true ? {} : tls), tls: true as const }),
  };
}

interface SocketOptions extends TlsOptions {
  readonly connectTimeout: number;
  readonly socketTimeout: number;
  readonly reconnectStrategy: (attempts: number) => number;
  readonly tls?: true;
}

export const OWN_CLIENT_OPTIONS: {
  readonly disableOfflineQueue: true;
  readonly pingInterval: number;
  readonly commandOptions: { readonly timeout: 0 };
} = {
  // An offline queue would send commands long after their callers were told that they failed.
  disableOfflineQueue: true,
  pingInterval: PING_INTERVAL_MS,
  commandOptions: { timeout: 0 },
};

/**
 * Destroys a client also when its socket is still on the way: node-redis forgets such a socket, which would then come
 * up and stay.
 */
export function destroyClient(client: DestructibleClient): void {
  client.on('ready', () => client.destroy());
  client.destroy();
}

export interface DestructibleClient {
  on(event: 'ready', listener: () => void): unknown;
  destroy(): void;
}

/**
 * An error as it may be told. Redis repeats a command that it does not know with its arguments, and the first of a
 * connection (HELLO, or AUTH) holds the password.
 */
export function tellable(error: Error): Error {
  const [told = ''] = error.message.split(/,? with args beginning with/, 1);
  return told === error.message ? error : new Error(told);
}

export async function readReply(reply: Promise<unknown>): Promise<RawReply> {
  try {
    return (await reply) as RawReply;
  } catch (error) {
    throw replyErrorOf(error) ?? error;
  }
}

/** What Redis answered, where that is what went wrong. */
export function replyErrorOf(error: unknown): ReplyError | undefined {
  if (!(error instanceof ErrorReply || isReplyOfAnotherCopy(error))) return undefined;
  const cause = tellable(error as Error);
  return new ReplyError(cause.message, { cause });
}

/**
 * A borrowed client may come from another copy of the package, whose classes are not ours. Its error replies are
 * told by what every error reply of Redis begins with: a word in capitals.
 */
function isReplyOfAnotherCopy(error: unknown): boolean {
  return error instanceof Error && /^[A-Z]{2,} /.test(error.message);
}
