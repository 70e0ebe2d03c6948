import type { EventEmitter } from 'node:events';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { ErrorReply, RESP_TYPES, type RedisClientOptions } from 'redis';
import type { RawReply } from '../engine/operation.ts';
import { ReplyError } from '../engine/port.ts';
import { reconnectDelay, type SocketStatus } from './adapter.ts';

export const CONNECT_TIMEOUT_MS = 5_000;

/**
 * node-redis drops a socket without traffic for this long. `Heartbeat` does so earlier; node-redis's own timeout also
 * elapses while the event loop is blocked, and is for sockets that the kit does not see, which ask for the topology.
 */
const BACKSTOP_MS = 30_000;

/** The time in which Redis must close a socket after QUIT. */
const QUIT_TIMEOUT_MS = 1_000;

/**
 * The options of each command. Strings in replies are Buffers. The timeout of node-redis is off, since `Connection` has
 * timeouts of its own: node-redis's timeout covers only commands that were not yet written, and its AbortSignal per
 * command costs a third of the throughput.
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
    socketTimeout: BACKSTOP_MS,
    // The default strategy of node-redis never reconnects after a socket timeout.
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

export const OWN_CLIENT_OPTIONS: Required<
  Pick<RedisClientOptions, 'disableOfflineQueue' | 'commandOptions'>
> = {
  // An offline queue would send commands long after they were rejected.
  disableOfflineQueue: true,
  commandOptions: { timeout: 0 },
};

/** Destroys a client now, and again when it is ready: node-redis does not stop a socket that is still connecting. */
export function destroyClient(client: Pick<EventEmitter, 'on'> & { destroy(): void }): void {
  client.on('ready', () => client.destroy());
  client.destroy();
}

interface LeavableClient {
  readonly isReady: boolean;
  readonly options?: { readonly socket?: object | undefined } | undefined;
  sendCommand(command: readonly string[], options: CommandOptions): Promise<unknown>;
}

/**
 * Makes a client connect again, after the replies that it waits for: Redis answers QUIT, which needs no rights, and
 * closes the socket, and the client looks up host and credentials again. `changed` is called if that fails.
 */
export function leaveSocket(client: LeavableClient, socket: SocketStatus, changed: () => void): void {
  const options: { reconnectStrategy?: unknown } | undefined = client.options?.socket;
  if (!client.isReady || socket.isLeaving || options?.reconnectStrategy === false) return;
  const abandon = socket.leave();
  const stay = () => {
    abandon();
    changed();
  };
  client.sendCommand(['QUIT'], COMMAND_OPTIONS).then(() => setTimeout(stay, QUIT_TIMEOUT_MS).unref(), stay);
}

/**
 * Removes command arguments from an error. Redis repeats the arguments of a command that it does not know, and those of
 * the first command of a connection (HELLO or AUTH) contain the password.
 */
export function redact(error: Error): Error {
  const [message = ''] = error.message.split(/,? with args beginning with/, 1);
  return message === error.message ? error : new Error(message);
}

export async function readReply(reply: Promise<unknown>): Promise<RawReply> {
  try {
    return (await reply) as RawReply;
  } catch (error) {
    throw replyErrorOf(error) ?? error;
  }
}

/** Converts an error reply of Redis to a ReplyError; returns undefined for any other error. */
export function replyErrorOf(error: unknown): ReplyError | undefined {
  if (!(error instanceof ErrorReply || isForeignErrorReply(error))) return undefined;
  const cause = redact(error as Error);
  return new ReplyError(cause.message, { cause });
}

/** Recognizes an error reply by its first word in capitals: another copy of node-redis has another ErrorReply class. */
function isForeignErrorReply(error: unknown): boolean {
  return error instanceof Error && /^[A-Z]{2,} /.test(error.message);
}
