import type { EventStream } from './event-stream.ts';
import type { LiveChannels } from './live-channels.ts';

export interface LiveDeps {
  readonly channels: LiveChannels;
  /** The channel in Redis of a name. */
  channelOf(name: string): string;
  /** How long a stream waits for its subscriptions before it opens. */
  readonly beginWithinMs: number;
  readonly maxBuffered: number;
  /** The client has read too slowly, and was disconnected. */
  overflowed(names: readonly string[], bytes: number): void;
}

/**
 * Sends the messages of channels to a stream until it ends. Resolves when the subscriptions have begun, or after
 * `beginWithinMs`: they then begin when Redis is available.
 */
export function sendLive(stream: EventStream, names: readonly string[], deps: LiveDeps): Promise<void> {
  return new Promise((resolve) => {
    const missing = new Set(names);
    const timer = setTimeout(resolve, deps.beginWithinMs);
    function begun(name: string): void {
      missing.delete(name);
      if (missing.size > 0) return;
      clearTimeout(timer);
      resolve();
    }
    function send(frame: Buffer): void {
      stream.send(frame);
      const bytes = stream.waitingBytes;
      if (bytes <= deps.maxBuffered) return;
      stream.cut();
      deps.overflowed(names, bytes);
    }
    for (const name of names) {
      stream.onEnd(deps.channels.add(deps.channelOf(name), name, { begun: () => begun(name), send }));
    }
    if (names.length === 0) resolve();
    stream.onEnd(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
