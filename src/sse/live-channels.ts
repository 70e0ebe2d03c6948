import { callListener } from '../base/emitter.ts';
import type { ChannelListener, PubSub } from '../engine/pub-sub.ts';

/** The reader of one channel. */
export interface LiveReader {
  /** All messages that are published from now on arrive. Called once, or again after an outage. */
  begun(): void;
  send(frame: Buffer): void;
}

export interface LiveChannelsDeps {
  readonly pubSub: PubSub;
  /** Builds the frame of a message, once for all readers of the channel. Undefined for a message that is skipped. */
  frameOf(message: string, name: string): Buffer | undefined;
  /** Redis denied a subscription. */
  refused(error: Error): void;
  /** A reader failed. The other readers receive the frame. */
  failed(error: unknown): void;
}

/** The channels of the streams of one middleware. The readers of a channel share one subscription. */
export class LiveChannels {
  readonly #deps: LiveChannelsDeps;
  readonly #channels = new Map<string, LiveChannel>();

  constructor(deps: LiveChannelsDeps) {
    this.#deps = deps;
  }

  /** Adds a reader to a channel, which has `name` for the app. Returns a function that removes the reader. */
  add(channel: string, name: string, reader: LiveReader): () => void {
    let live = this.#channels.get(channel);
    if (live === undefined) {
      live = new LiveChannel(name, this.#deps);
      this.#channels.set(channel, live);
      live.subscribe(channel);
    }
    const joined = live;
    joined.add(reader);
    return () => {
      if (!joined.readers.delete(reader) || joined.readers.size > 0) return;
      this.#channels.delete(channel);
      joined.unsubscribe();
    };
  }
}

class LiveChannel implements ChannelListener {
  readonly readers = new Set<LiveReader>();
  readonly #name: string;
  readonly #deps: LiveChannelsDeps;
  #isUp = false;
  unsubscribe: () => void = () => undefined;

  constructor(name: string, deps: LiveChannelsDeps) {
    this.#name = name;
    this.#deps = deps;
  }

  subscribe(channel: string): void {
    this.unsubscribe = this.#deps.pubSub.subscribe(channel, this);
  }

  add(reader: LiveReader): void {
    this.readers.add(reader);
    if (this.#isUp) reader.begun();
  }

  onMessage(message: string): void {
    const frame = this.#deps.frameOf(message, this.#name);
    if (frame === undefined) return;
    for (const reader of [...this.readers]) {
      callListener(
        () => reader.send(frame),
        (error) => this.#deps.failed(error),
      );
    }
  }

  onStatus(isUp: boolean): void {
    this.#isUp = isUp;
    if (isUp) for (const reader of [...this.readers]) reader.begun();
  }

  onRefused(error: Error): void {
    this.#deps.refused(error);
  }
}
