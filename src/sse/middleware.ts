import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError, StoreError } from '../base/errors.ts';
import type { FailurePolicies } from '../base/failure-policies.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { PubSub } from '../engine/pub-sub.ts';
import { internalPurposeOf } from '../http/internal-request.ts';
import type { Middleware, Next } from '../http/middleware.ts';
import { callError } from '../http/response/complete-response.ts';
import { isClosed } from '../http/response/kit-reads.ts';
import { type MiddlewareOutcome, runMiddleware } from '../http/run-middleware.ts';
import { EventStream } from './event-stream.ts';
import { frameOf, HEARTBEAT } from './frames.ts';
import { type LiveDeps, sendLive } from './live.ts';
import { LiveChannels } from './live-channels.ts';
import { MessageEvents } from './message-events.ts';
import { OpenStreams } from './open-streams.ts';
import { type ChannelNames, resolveSseOptions, type SseOptions, type SseSettings } from './options.ts';
import { Position } from './position.ts';
import { Replay } from './replay.ts';
import { channelsOf, lastEventIdOf } from './requested-channels.ts';

export interface SseDeps {
  readonly pubSub: PubSub;
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly failurePolicies: FailurePolicies;
  readonly commandTimeoutMs: number;
  /** Aborts when the kit begins to close. */
  readonly closing: AbortSignal;
}

export type SseMiddleware = Middleware & {
  /** Ends all streams of the middleware, also those that begin later: their clients reconnect to another process. */
  close(): void;
};

/** Starts to send to a stream. Resolves when the stream may open. */
type Source = (stream: EventStream, channels: ChannelNames, position: Position) => Promise<void>;

export function sseMiddleware(options: SseOptions<never>, deps: SseDeps): SseMiddleware {
  const settings = resolveSseOptions(options);
  deps.failurePolicies.record('sse', 'resume');
  const failed = (error: unknown) => deps.reporter.failure('sse', asError(error));
  const streams = new OpenStreams(settings.heartbeatMs, deps.closing);
  const begin = sourceOf(settings, new MessageEvents(settings.event, failed), deps, failed);

  async function respond(req: IncomingMessage, res: ServerResponse): Promise<MiddlewareOutcome> {
    const channels = await channelsOf(req, settings);
    if (channels === null) return 'continue';
    if (isClosed(res)) return 'gone';
    const stream = new EventStream(res);
    try {
      if (req.method === 'HEAD') stream.setHeaders();
      else await openStream(stream, channels, req);
      if (req.method === 'HEAD' || streams.isClosed) stream.end();
      return 'answered';
    } catch (error) {
      stream.abandon();
      throw error;
    }
  }

  async function openStream(
    stream: EventStream,
    channels: ChannelNames,
    req: IncomingMessage,
  ): Promise<void> {
    const position = new Position(channels, settings.replay && lastEventIdOf(req));
    streams.add(stream);
    if (!streams.isClosed) await begin(stream, channels, position);
    stream.open(firstFrame(settings.retryMs, position.id));
  }

  function sse(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const call = { req, res, next };
    const unusable = callError('kit.sse', call);
    const isRead = req.method === 'GET' || req.method === 'HEAD';
    if (unusable !== undefined || !isRead || internalPurposeOf(req) !== undefined) next(unusable);
    else runMiddleware(call, failed, () => respond(req, res));
  }
  return Object.assign(sse, { close: () => streams.close() });
}

function sourceOf(
  { replay, maxBuffered }: SseSettings,
  events: MessageEvents,
  { pubSub, keys, reporter, commandTimeoutMs }: SseDeps,
  failed: (error: unknown) => void,
): Source {
  if (replay !== undefined) {
    const deps = { log: replay, failed, linesOf: events.linesOf.bind(events) };
    return async (stream, channels, position) => {
      const replayed = new Replay(stream, position, deps);
      await Promise.all([channels].flat().map((channel) => replayed.begin(channel)));
    };
  }
  const deps: LiveDeps = {
    channels: new LiveChannels({
      pubSub,
      frameOf: (message, name) => events.frameOf(message, name),
      failed,
      refused: (error) => failed(new StoreError('ERR_REDIS_KIT_REPLY', error.message, { cause: error })),
    }),
    channelOf: (name) => keys.channel(name),
    beginWithinMs: commandTimeoutMs,
    maxBuffered,
    overflowed: (channels, bytes) => reporter.events.emit('sse:overflow', { channels, bytes }),
  };
  return (stream, channels) => sendLive(stream, [channels].flat(), deps);
}

/** Something is sent at once, since a proxy may hold back the head until the first byte. */
function firstFrame(retryMs: number | undefined, id: string | undefined): Buffer {
  if (retryMs === undefined && id === undefined) return HEARTBEAT;
  return frameOf(retryMs === undefined ? '' : `retry: ${retryMs}\n`, id);
}
