import { closedError, StoreError } from '../base/errors.ts';
import { freshToken } from '../base/token.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { PubSub } from '../engine/pub-sub.ts';
import { insist, mayHaveRun } from '../waiting/insist.ts';
import { WakeUps } from '../waiting/wake-ups.ts';
import { type Answer, unpackAnswer } from './answer.ts';
import { type IdempotencyBeginReply, idempotencyBegin } from './operations/begin.ts';
import { discardRun, Run, type RunDeps, type RunSettings } from './run.ts';

export interface RecordsDeps extends RunDeps {
  readonly pubSub: PubSub;
  /** Aborts when the kit is closed. */
  readonly closing: AbortSignal;
}

export interface RecordsSettings extends RunSettings {
  /** Whether a repeat waits for the first. */
  readonly waits: boolean;
}

/** What a request asks for. */
export interface Asked {
  readonly scope: string;
  readonly key: string;
  readonly fingerprint: Buffer;
}

/**
 * What is to be done with a request. `gone`: nothing, since its client left while it waited. `lost-sight`: it waited for
 * another run, and nobody can tell any more what becomes of that.
 */
export type Beginning =
  | { readonly kind: 'run'; readonly run: Run }
  | { readonly kind: 'replay'; readonly answer: Answer }
  | { readonly kind: 'in-flight' | 'mismatch' | 'unkept' | 'gone' }
  | { readonly kind: 'lost-sight'; readonly error: unknown };

/** Of a lease that is about to end: sleeping for less would be asking all the time. */
const SHORTEST_WAIT_MS = 10;

/** The records of one `kit.idempotency`: begins runs, or finds what became of them. */
export class IdempotencyRecords {
  readonly #settings: RecordsSettings;
  readonly #deps: RecordsDeps;
  readonly #wakeUps: WakeUps | undefined;

  constructor(settings: RecordsSettings, deps: RecordsDeps) {
    this.#settings = settings;
    this.#deps = deps;
    if (settings.waits) this.#wakeUps = heard(deps);
  }

  /** Rejects with a StoreError when nobody can tell. `gone` aborts when nobody waits for the answer any more. */
  async begin(asked: Asked, deadline: Deadline, gone?: AbortSignal): Promise<Beginning> {
    const recordKey = this.#deps.keys.idempotency(asked.scope, asked.key);
    const wakeUp = this.#wakeUps?.expect(recordKey);
    const stop = () => wakeUp?.stop();
    gone?.addEventListener('abort', stop, { once: true });
    try {
      let reply = await this.#ask(recordKey, asked, deadline);
      while (typeof reply === 'number' && wakeUp !== undefined) {
        await wakeUp.wait(Math.max(reply, SHORTEST_WAIT_MS));
        if (gone?.aborted === true) return { kind: 'gone' };
        try {
          // The wait is the user's wish, and no time spent on Redis.
          reply = await this.#ask(recordKey, asked, undefined);
        } catch (error) {
          return { kind: 'lost-sight', error };
        }
      }
      return typeof reply === 'number' ? { kind: 'in-flight' } : reply;
    } finally {
      gone?.removeEventListener('abort', stop);
      stop();
    }
  }

  /** How long the lease of who runs it lasts, where somebody does. */
  async #ask(recordKey: string, asked: Asked, deadline: Deadline | undefined): Promise<Beginning | number> {
    const { engine, closing } = this.#deps;
    if (closing.aborted) throw closedError();
    const { lease, retention, waits } = this.#settings;
    const token = freshToken();
    const { fingerprint } = asked;
    const args = { token, fingerprint, lease, retention, waits };
    let reply: IdempotencyBeginReply;
    try {
      reply = await engine.run(idempotencyBegin, [recordKey], args, deadline);
    } catch (error) {
      const undo = () => discardRun({ recordKey, token }, false, this.#settings, this.#deps);
      if (mayHaveRun(error)) void insist(undo, lease);
      throw error;
    }
    if (reply.found === 'corrupt') throw corrupt(recordKey);
    if (reply.outcome === 'running') return reply.leftMs;
    if (reply.outcome === 'mismatch' || reply.outcome === 'unkept') return { kind: reply.outcome };
    if (reply.outcome === 'done') return this.#replay(recordKey, asked.key, reply.answer);
    const { attempt } = reply;
    const { events } = this.#deps.reporter;
    if (reply.outcome === 'recovered') events.emit('idempotency:recovered', { key: asked.key, attempt });
    const granted = { recordKey, key: asked.key, token, fingerprint, attempt };
    return { kind: 'run', run: new Run(granted, this.#settings, this.#deps) };
  }

  #replay(recordKey: string, key: string, packed: Buffer | null): Beginning {
    const answer = packed === null ? undefined : unpackAnswer(packed);
    if (answer === undefined) throw corrupt(recordKey);
    this.#deps.reporter.events.emit('idempotency:replayed', { key });
    return { kind: 'replay', answer };
  }
}

/** Wakes who waits when a run is over, wherever it ran. */
function heard({ pubSub, keys, closing }: RecordsDeps): WakeUps {
  const wakeUps = new WakeUps();
  pubSub.subscribe(keys.idempotencyChannel(), {
    onMessage: (message) => wakeUps.call(message),
    onStatus: (isUp) => wakeUps.listenerChanged(isUp),
  });
  // Who waits is to hear of it, and not to sleep on for a lease.
  closing.addEventListener('abort', () => wakeUps.listenerChanged(false), { once: true });
  return wakeUps;
}

/** Taken for a request that may have run. */
function corrupt(recordKey: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `the value under ${recordKey} is no record of redis-kit; requests with its key are refused until the key is deleted`,
  );
}
