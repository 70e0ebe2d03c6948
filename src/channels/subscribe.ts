import { onAbort } from '../base/abort.ts';
import { checkChannelName } from '../base/channel-name.ts';
import { describe } from '../base/describe.ts';
import { callListener } from '../base/emitter.ts';
import { asError, ConfigError, ConnectionError, closedError, StoreError } from '../base/errors.ts';
import { type Json, parseJson } from '../base/json.ts';
import type { Keys } from '../base/keys.ts';
import { optionsObject, unknownOptions } from '../base/option-reader.ts';
import type { Reporter } from '../base/reporter.ts';
import { Glob } from '../engine/glob.ts';
import type { ChannelPattern, PubSub } from '../engine/pub-sub.ts';

export interface SubscribeDeps {
  readonly pubSub: PubSub;
  readonly keys: Keys;
  readonly reporter: Reporter;
  /** Aborts when the kit begins to close. */
  readonly closing: AbortSignal;
}

export type DataListener = (data: Json, channel: string) => unknown;

/** As long as `kit.ready()` waits for Redis. */
const BEGIN_WITHIN_MS = 5_000;

/** Subscribes, and resolves to the unsubscribe function when every message that is published from now on arrives. */
export async function subscribe(
  channel: unknown,
  listener: unknown,
  deps: SubscribeDeps,
): Promise<() => Promise<void>> {
  const subject = subjectOf(channel, deps.keys);
  if (typeof listener !== 'function') {
    throw new ConfigError(`kit.subscribe: the listener is ${describe(listener)}; it must be a function`);
  }
  const stop = await begin(subject, receiverOf(listener as DataListener, deps), deps);
  return async () => stop();
}

/** The channel or the pattern, as Redis knows it. The prefix of the kit has no characters with a meaning in patterns. */
function subjectOf(channel: unknown, keys: Keys): string | ChannelPattern {
  if (typeof channel !== 'object' || channel === null) {
    checkChannelName('kit.subscribe: the channel', channel);
    return keys.channel(channel);
  }
  const [problem] = unknownOptions('kit.subscribe', optionsObject('kit.subscribe', channel), {
    known: ['pattern'],
  });
  if (problem !== undefined) throw new ConfigError(problem);
  const { pattern } = channel as { readonly pattern?: unknown };
  checkChannelName('kit.subscribe: the pattern', pattern);
  if (new Glob(pattern).isComplete) return { pattern: keys.channel(pattern) };
  throw new ConfigError(
    `kit.subscribe: the pattern ${describe(pattern)} is incomplete; close its \`[\`, or write \\[ and \\\\ for the characters themselves`,
  );
}

/** Parses each message for this listener alone: no listener can change the data that another one receives. */
function receiverOf(listener: DataListener, { keys, reporter }: SubscribeDeps) {
  const report = (error: Error) => reporter.failure('channel', error);
  return (message: string, channel: string): void => {
    const name = keys.channelName(channel);
    const data = parseJson(message);
    if (data === undefined) {
      report(new StoreError('ERR_REDIS_KIT_CORRUPT', `a message of channel ${describe(name)} is no JSON`));
    } else
      callListener(
        () => listener(data, name),
        (error) => report(asError(error)),
      );
  };
}

async function begin(
  subject: string | ChannelPattern,
  receive: (message: string, channel: string) => void,
  { pubSub, closing }: SubscribeDeps,
): Promise<() => void> {
  if (closing.aborted) throw closedError();
  let isActive = true;
  let succeed: () => void = () => undefined;
  let fail: (error: Error) => void = () => undefined;
  const begun = new Promise<void>((resolve, reject) => {
    succeed = resolve;
    fail = reject;
  });
  const unsubscribe = pubSub.subscribe(subject, {
    onMessage: (message, channel) => {
      if (isActive) receive(message, channel);
    },
    onStatus: (isUp) => {
      if (isUp) succeed();
    },
    onRefused: (error) => fail(refusalOf(error)),
  });
  const stop = () => {
    isActive = false;
    unsubscribe();
  };
  const timer = setTimeout(() => fail(lateError()), BEGIN_WITHIN_MS);
  const ignoreClosing = onAbort(closing, () => fail(closedError()));
  try {
    await begun;
    return stop;
  } catch (error) {
    stop();
    throw error;
  } finally {
    clearTimeout(timer);
    ignoreClosing();
  }
}

function refusalOf(error: Error): StoreError {
  return new StoreError('ERR_REDIS_KIT_REPLY', `kit.subscribe: Redis refused: ${error.message}`, {
    cause: error,
  });
}

function lateError(): ConnectionError {
  return new ConnectionError(`kit.subscribe: Redis was not ready within ${BEGIN_WITHIN_MS} ms`);
}
