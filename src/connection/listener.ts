import { callListener } from '../base/emitter.ts';
import { asError, ConnectionError, StoreError } from '../base/errors.ts';
import { ReplyError } from '../engine/port.ts';
import type { ChannelListener, PubSub } from '../engine/pub-sub.ts';
import { type ListeningSocket, reconnectDelay } from './adapter.ts';
import { SocketLife } from './socket-life.ts';

interface Entry {
  readonly listener: ChannelListener;
  /** What the listener was told last. */
  isUp: boolean;
}

/** Who listens to what, on one socket after the other: the first when somebody asks, the next when that is lost. */
export class Listener implements PubSub {
  readonly #listen: () => ListeningSocket | undefined;
  readonly #report: (error: Error) => void;
  readonly #channels = new Map<string, Set<Entry>>();
  #life: SocketLife | undefined;
  /** Runs until the next socket may be tried. */
  #timer: NodeJS.Timeout | undefined;
  #attempts = 0;
  #isClosed = false;
  /** What was wrong, as it was reported; the same again is no news until all channels were up. */
  #reported: string | undefined;

  constructor(listen: () => ListeningSocket | undefined, report: (error: Error) => void) {
    this.#listen = listen;
    this.#report = report;
  }

  subscribe(channel: string, listener: ChannelListener): () => void {
    if (this.#isClosed) return () => undefined;
    const entry: Entry = { listener, isUp: false };
    const entries = this.#channels.get(channel) ?? new Set();
    this.#channels.set(channel, entries.add(entry));
    if (this.#life !== undefined) this.#life.settle(channel);
    else if (this.#timer === undefined) this.#begin();
    // Not at once: whoever subscribes does not have the way to stop it yet.
    queueMicrotask(() => this.#tell(channel, entry));
    return () => {
      if (!entries.delete(entry) || entries.size > 0) return;
      this.#channels.delete(channel);
      this.#life?.settle(channel);
    };
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#life?.end();
    this.#channels.clear();
  }

  #begin(): void {
    this.#timer = undefined;
    if (this.#channels.size === 0) return;
    const socket = this.#socket();
    if (socket === undefined) {
      this.#beginLater();
      return;
    }
    const life = new SocketLife(socket, {
      wants: (channel) => this.#channels.has(channel),
      ready: () => {
        for (const channel of this.#channels.keys()) life.settle(channel);
      },
      up: (channel) => this.#up(channel),
      heard: (channel, message) => this.#heard(channel, message),
      refused: (error) => this.#failed(error),
      ended: (error) => this.#ended(error),
    });
    this.#life = life;
  }

  #socket(): ListeningSocket | undefined {
    try {
      return this.#listen();
    } catch (error) {
      // A client may have been lent that cannot be duplicated.
      this.#failed(asError(error));
      return undefined;
    }
  }

  #beginLater(): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => this.#begin(), reconnectDelay(this.#attempts++)).unref();
  }

  #up(channel: string): void {
    // Not sooner: a server that hangs up on whoever subscribes is not to be tried without a pause.
    this.#attempts = 0;
    if (this.#reported !== undefined && [...this.#channels.keys()].every((each) => this.#life?.isUp(each))) {
      this.#reported = undefined;
    }
    for (const entry of [...(this.#channels.get(channel) ?? [])]) this.#tell(channel, entry);
  }

  #heard(channel: string, message: string): void {
    const entries = this.#channels.get(channel);
    for (const entry of [...(entries ?? [])]) {
      if (entries?.has(entry)) this.#call(() => entry.listener.onMessage(message));
    }
  }

  #ended(error: unknown): void {
    this.#life = undefined;
    this.#beginLater();
    // Of a loss the connection for commands tells, or there is none to tell of.
    if (error instanceof ReplyError) this.#failed(error);
    for (const [channel, entries] of [...this.#channels]) {
      for (const entry of [...entries]) this.#tell(channel, entry);
    }
  }

  /** Tells a listener of a change, where there is one. */
  #tell(channel: string, entry: Entry): void {
    const isUp = this.#life?.isUp(channel) ?? false;
    if (isUp === entry.isUp || !this.#channels.get(channel)?.has(entry)) return;
    entry.isUp = isUp;
    this.#call(() => entry.listener.onStatus(isUp));
  }

  #call(call: () => unknown): void {
    callListener(call, (error) => this.#report(asError(error)));
  }

  #failed(error: Error): void {
    if (error.message === this.#reported) return;
    this.#reported = error.message;
    const message = `listening failed: ${error.message}`;
    const isReply = error instanceof ReplyError;
    this.#report(
      isReply
        ? new StoreError('ERR_REDIS_KIT_REPLY', message, { cause: error })
        : new ConnectionError(message, { cause: error }),
    );
  }
}
