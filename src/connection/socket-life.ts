import { ReplyError } from '../engine/port.ts';
import { type ListeningSocket, PING_INTERVAL_MS, SOCKET_TIMEOUT_MS } from './adapter.ts';

/** Silence is counted in ticks, of which an event loop that stands still has no more than one. */
const TICK_MS = 1_000;
const ASK_AFTER_TICKS = PING_INTERVAL_MS / TICK_MS;
const DEAD_AFTER_TICKS = SOCKET_TIMEOUT_MS / TICK_MS;

const MAX_REFUSAL_DELAY_MS = 30_000;

/** What a socket that listens is to do, and whom it tells. */
export interface SocketTask {
  wants(channel: string): boolean;
  /** Connected; nothing is subscribed to yet. */
  ready(): void;
  /** Every message of the channel is heard from now on. */
  up(channel: string): void;
  heard(channel: string, message: string): void;
  /** Redis does not let us listen to a channel; it is asked again later. */
  refused(error: ReplyError): void;
  /** With the error of whoever ended it, where there is one. */
  ended(error: unknown): void;
}

/** Where a channel stands with Redis. */
type Phase = 'subscribing' | 'up' | 'unsubscribing' | 'refused';

/** One socket that listens, from the first attempt to connect until it is lost or found dead. */
export class SocketLife {
  readonly #socket: ListeningSocket;
  readonly #task: SocketTask;
  readonly #phases = new Map<string, Phase>();
  /** How often each channel was refused in a row. */
  readonly #refusals = new Map<string, number>();
  readonly #heartbeat: NodeJS.Timeout;
  #silentTicks = 0;
  #isAsked = false;
  #isReady = false;
  #isOver = false;

  constructor(socket: ListeningSocket, task: SocketTask) {
    this.#socket = socket;
    this.#task = task;
    this.#heartbeat = setInterval(() => this.#tick(), TICK_MS).unref();
    const events = {
      heard: (channel: string, message: string) => this.#heard(channel, message),
      lost: (error: unknown) => this.end(error),
    };
    socket.connect(events).then(
      () => this.#ready(),
      (error: unknown) => this.end(error),
    );
  }

  isUp(channel: string): boolean {
    return this.#phases.get(channel) === 'up';
  }

  /** To be called whenever a channel may be wanted or no longer. */
  settle(channel: string): void {
    if (!this.#isReady || this.#isOver) return;
    const phase = this.#phases.get(channel);
    const isWanted = this.#task.wants(channel);
    // In the other phases something is under way, which settles it anew when it is done: of commands for one channel
    // that overlap, node-redis would lose count.
    if (phase === undefined && isWanted) void this.#subscribe(channel);
    if (phase === 'up' && !isWanted) void this.#unsubscribe(channel);
  }

  end(error?: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearInterval(this.#heartbeat);
    this.#socket.destroy();
    this.#task.ended(error);
  }

  #ready(): void {
    if (this.#isOver) return;
    this.#isReady = true;
    this.#sounded();
    this.#task.ready();
  }

  async #subscribe(channel: string): Promise<void> {
    this.#phases.set(channel, 'subscribing');
    try {
      await this.#socket.subscribe(channel);
    } catch (error) {
      if (error instanceof ReplyError) this.#refused(channel, error);
      else this.end(error);
      return;
    }
    if (this.#isOver) return;
    this.#phases.set(channel, 'up');
    this.#refusals.delete(channel);
    this.#task.up(channel);
    this.settle(channel);
  }

  #refused(channel: string, error: ReplyError): void {
    if (this.#isOver) return;
    const times = this.#refusals.get(channel) ?? 0;
    this.#refusals.set(channel, times + 1);
    this.#phases.set(channel, 'refused');
    setTimeout(
      () => {
        this.#phases.delete(channel);
        if (!this.#task.wants(channel)) this.#refusals.delete(channel);
        this.settle(channel);
      },
      Math.min(1_000 * 2 ** times, MAX_REFUSAL_DELAY_MS),
    ).unref();
    this.#task.refused(error);
  }

  async #unsubscribe(channel: string): Promise<void> {
    this.#phases.set(channel, 'unsubscribing');
    try {
      await this.#socket.unsubscribe(channel);
    } catch (error) {
      // Who may not unsubscribe goes on to hear what nobody wants; that is no harm.
      if (!(error instanceof ReplyError)) {
        this.end(error);
        return;
      }
    }
    this.#phases.delete(channel);
    this.settle(channel);
  }

  #heard(channel: string, message: string): void {
    this.#sounded();
    // One may come with the acknowledgement itself, before anybody is told that the channel is up.
    if (this.isUp(channel)) this.#task.heard(channel, message);
  }

  #tick(): void {
    this.#silentTicks++;
    if (this.#silentTicks >= DEAD_AFTER_TICKS || !this.#socket.isWellPlaced()) {
      this.end();
      return;
    }
    if (!this.#isReady || this.#isAsked || this.#silentTicks < ASK_AFTER_TICKS) return;
    this.#isAsked = true;
    this.#socket.ping().then(
      () => this.#sounded(),
      // An error is an answer too.
      (error: unknown) => (error instanceof ReplyError ? this.#sounded() : this.end(error)),
    );
  }

  #sounded(): void {
    this.#silentTicks = 0;
    this.#isAsked = false;
  }
}
