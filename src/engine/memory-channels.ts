import { Glob } from './glob.ts';
import type { ChannelListener, ChannelPattern, PubSub } from './pub-sub.ts';

interface PatternListener {
  readonly glob: Glob;
  readonly listener: ChannelListener;
}

/** Pub/Sub in the memory of this process. */
export class MemoryChannels implements PubSub {
  readonly #channels = new Map<string, Set<ChannelListener>>();
  readonly #patterns = new Set<PatternListener>();

  publish(channel: string, message: string): void {
    for (const listener of this.#channels.get(channel) ?? []) deliver(listener, message, channel);
    for (const { glob, listener } of this.#patterns) {
      if (glob.matches(channel)) deliver(listener, message, channel);
    }
  }

  subscribe(channel: string | ChannelPattern, listener: ChannelListener): () => void {
    const stop =
      typeof channel === 'string'
        ? this.#addToChannel(channel, listener)
        : this.#addPattern(channel, listener);
    listener.onStatus(true);
    return stop;
  }

  #addToChannel(channel: string, listener: ChannelListener): () => void {
    const listeners = this.#channels.get(channel) ?? new Set();
    this.#channels.set(channel, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#channels.get(channel) === listeners) this.#channels.delete(channel);
    };
  }

  #addPattern({ pattern }: ChannelPattern, listener: ChannelListener): () => void {
    const entry = { glob: new Glob(pattern), listener };
    this.#patterns.add(entry);
    return () => void this.#patterns.delete(entry);
  }
}

/** Deferred, as messages from a socket are: a listener must not run in the middle of an operation. */
function deliver(listener: ChannelListener, message: string, channel: string): void {
  setImmediate(() => listener.onMessage(message, channel));
}
