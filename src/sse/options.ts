import type { IncomingMessage } from 'node:http';
import type { Duration } from '../base/duration.ts';
import { renamed } from '../base/foreign-options.ts';
import type { Json } from '../base/json.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
import { valueSizeOption } from '../base/size-options.ts';
import { timerOption } from '../base/timed-options.ts';
import type { Req } from '../http/middleware.ts';
import { checkNotMounted } from '../http/mount-check.ts';

/** The methods of a `kit.log` that streams of events use. */
export interface ReplayLog {
  /** Resolves to the cursor of the newest entry, or to a cursor before all entries. */
  end(id: string): Promise<string>;
  /**
   * Calls the listener with every entry after the cursor, in order, each once. While a promise of the listener is
   * pending, the next entry waits. Rejects with a ConfigError for a value that is no cursor.
   */
  follow(
    id: string,
    listener: (entry: ReplayEntry) => unknown,
    options: { readonly after: string; readonly signal: AbortSignal },
  ): Promise<unknown>;
}

export interface ReplayEntry {
  readonly cursor: string;
  readonly event: unknown;
}

/** The channels of a request: one name, or several. */
export type ChannelNames = string | readonly string[];

export interface SseOptions<Request extends IncomingMessage = Req> {
  /**
   * Returns the channel whose messages the client receives, or up to 100 channels. Null calls `next()`: the middleware
   * does not respond.
   */
  readonly channels: (req: Request) => ChannelNames | null | Promise<ChannelNames | null>;
  /**
   * A `kit.log`, whose ids are then the channels: the client receives each entry with its cursor as the event's id, and
   * continues after its last id when it reconnects. Without a log, messages of `kit.publish` are sent at most once.
   */
  readonly replay?: ReplayLog | undefined;
  /** Returns the name of the event of a message. Default: no name, which browsers dispatch as `message`. */
  readonly event?: ((data: Json, channel: string) => string | undefined) | undefined;
  /** How often a comment is sent, so that proxies do not close the connection. Default `'15s'`. */
  readonly heartbeat?: Duration | undefined;
  /** How long clients wait before they reconnect. Default: the client decides; browsers wait some seconds. */
  readonly retry?: Duration | undefined;
  /**
   * The most bytes that wait for a slow client, which is disconnected above; default 1 MiB. With `replay`, no bytes wait:
   * a slow client continues from the log.
   */
  readonly maxBuffered?: number | undefined;
}

export interface SseSettings extends Pick<SseOptions, 'replay' | 'event'> {
  readonly channels: SseOptions['channels'];
  readonly heartbeatMs: number;
  readonly retryMs: number | undefined;
  readonly maxBuffered: number;
}

const OPTIONS = ['channels', 'replay', 'event', 'heartbeat', 'retry', 'maxBuffered'] as const;

/** Options of other packages, for which the error names the option of the kit. */
const ELSEWHERE = {
  ...renamed('channels', 'channel', 'rooms', 'room', 'topic', 'topics'),
  ...renamed('replay', 'log', 'history'),
  ...renamed('event', 'eventName'),
  ...renamed('heartbeat', 'keepAlive', 'keepAliveInterval', 'pingInterval', 'ping'),
  ...renamed('retry', 'reconnect', 'retryInterval', 'clientRetry'),
  ...renamed('maxBuffered', 'highWaterMark', 'maxBuffer', 'bufferSize', 'maxBytes'),
};

export function resolveSseOptions(options: SseOptions<never>): SseSettings {
  checkNotMounted('kit.sse', options);
  return readSettings('kit.sse', options, { known: OPTIONS, elsewhere: ELSEWHERE }, (reader) => ({
    channels: () => channelsOption(reader),
    replay: () => replayOption(reader),
    event: () => reader.callback<NonNullable<SseOptions['event']>>('event'),
    heartbeatMs: () => timerOption(reader, 'heartbeat', '15s'),
    retryMs: () => reader.duration('retry'),
    maxBuffered: () => valueSizeOption(reader, 'maxBuffered'),
  }));
}

function channelsOption(reader: OptionReader): SseOptions['channels'] {
  const channels = reader.callback<SseOptions['channels']>('channels');
  if (channels !== undefined) return channels;
  throw reader.error('channels', 'it is required: a function that returns the channels of a request');
}

function replayOption(reader: OptionReader): ReplayLog | undefined {
  const log = reader.value('replay');
  if (log === undefined) return undefined;
  const isLog =
    typeof log === 'object' &&
    log !== null &&
    ['end', 'follow'].every((method) => typeof Reflect.get(log, method) === 'function');
  if (isLog) return log as ReplayLog;
  throw reader.error('replay', 'it must be a log that kit.log() has created');
}
