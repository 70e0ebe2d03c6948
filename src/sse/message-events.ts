import { describe } from '../base/describe.ts';
import { asError, ConfigError, StoreError } from '../base/errors.ts';
import { type Json, parseJson } from '../base/json.ts';
import { eventLines, frameOf, hasLineBreak } from './frames.ts';
import type { ReplayEntry, SseSettings } from './options.ts';

/** Builds the events of messages, once for all streams of a middleware. */
export class MessageEvents {
  readonly #eventOf: SseSettings['event'];
  readonly #failed: (error: Error) => void;
  /** The lines of entries that several streams receive. A log passes the same object to all of its listeners. */
  readonly #lines = new WeakMap<ReplayEntry, string>();

  constructor(eventOf: SseSettings['event'], failed: (error: Error) => void) {
    this.#eventOf = eventOf;
    this.#failed = failed;
  }

  /** The frame of a published message; undefined for one that is no JSON, which is reported. */
  frameOf(message: string, channel: string): Buffer | undefined {
    const data = parseJson(message);
    if (data !== undefined) return frameOf(eventLines(data, this.#nameOf(data, channel)));
    this.#failed(
      new StoreError('ERR_REDIS_KIT_CORRUPT', `a message of channel ${describe(channel)} is no JSON`),
    );
    return undefined;
  }

  /** The lines of an entry of a log, without its id. */
  linesOf(entry: ReplayEntry, channel: string): string {
    const known = this.#lines.get(entry);
    if (known !== undefined) return known;
    const data = entry.event as Json;
    const lines = eventLines(data, this.#nameOf(data, channel));
    this.#lines.set(entry, lines);
    return lines;
  }

  /** The name of the event; none if the callback fails, which is reported. */
  #nameOf(data: Json, channel: string): string | undefined {
    try {
      const name: unknown = this.#eventOf?.(data, channel);
      if (name === undefined || (typeof name === 'string' && !hasLineBreak(name))) return name;
      throw new ConfigError(
        `kit.sse: option \`event\` returned ${describe(name)}; it must return a string without line breaks, or undefined`,
      );
    } catch (error) {
      this.#failed(asError(error));
      return undefined;
    }
  }
}
