import type { Emitter } from '../base/emitter.ts';
import { ConnectionError } from '../base/errors.ts';
import type { KitEvents } from '../base/events.ts';
import { probeKey } from '../base/keys.ts';
import { ReplyError } from '../engine/port.ts';
import type { Adapter } from './adapter.ts';
import { Breaker } from './breaker.ts';
import { keySlot } from './key-slot.ts';
import { type Refusal, refusalOf } from './refusal.ts';

/** The name of the breaker of all slots that no node serves. */
const UNSERVED_SLOTS = 'unserved-slots';

interface NodeListeners {
  refusalsChanged(): void;
  /** A node accepts commands in place of a node that was the wrong one. */
  nodeReplaced(): void;
}

/** The circuit breakers of all masters, and one of the slots that no master serves. */
export class NodeBreakers {
  readonly #adapter: Adapter;
  readonly #events: Emitter<KitEvents>;
  readonly #timeoutMs: number;
  readonly #listeners: NodeListeners;
  readonly #breakers = new Map<string, Breaker>();
  /** Slots that no node serves. They share a breaker, so that many of them do not cause many probes. */
  readonly #unservedSlots = new Set<number>();
  #isReplacing = false;
  /** The names of the nodes that refuse commands, and why. */
  readonly #refusals = new Map<string, Error>();

  constructor(adapter: Adapter, events: Emitter<KitEvents>, timeoutMs: number, listeners: NodeListeners) {
    this.#adapter = adapter;
    this.#events = events;
    this.#timeoutMs = timeoutMs;
    this.#listeners = listeners;
  }

  /** Why a node or slot refuses commands; undefined if none does. */
  get refusal(): Error | undefined {
    const [refusal] = this.#refusals.values();
    return refusal;
  }

  /** The breaker of the node that serves the key, or of its slot while no node serves it. */
  of(key: string): Breaker {
    const isUnserved = this.#unservedSlots.size > 0 && this.#unservedSlots.has(keySlot(key));
    return this.#named(isUnserved ? UNSERVED_SLOTS : this.#adapter.nodeOf(key));
  }

  /** As `of`. Throws while the breaker is open. */
  passable(key: string): Breaker {
    const breaker = this.of(key);
    if (!breaker.isOpen) return breaker;
    const { refusal } = breaker;
    throw new ConnectionError(
      refusal === undefined
        ? `${this.#adapter.nodeOf(key)} does not answer; nothing is sent until it does`
        : `${refusal.message}; nothing is sent until it accepts them`,
      { cause: refusal?.cause },
    );
  }

  /** Records that a command of the key was refused. Returns the breaker of its node, or that of unserved slots. */
  refused(key: string, refusal: Refusal, error: ReplyError): Breaker {
    if (refusal.scope === 'command') return this.of(key);
    if (refusal.scope === 'slot') this.#unservedSlots.add(keySlot(key));
    const name = refusal.scope === 'slot' ? UNSERVED_SLOTS : this.#adapter.nodeOf(key);
    const breaker = this.#named(name);
    breaker.refused({
      error: new ConnectionError(`${name} refuses commands: ${error.message}`, { cause: error }),
      isOutage: refusal.scope !== 'writes',
      replace: () => this.#replace(name, refusal, breaker),
      probe: () => this.#write(key),
    });
    return breaker;
  }

  /** Probes the nodes that are unavailable now, since a connection has changed. */
  probeNow(): void {
    for (const breaker of this.#breakers.values()) breaker.probeNow();
  }

  stop(): void {
    for (const breaker of this.#breakers.values()) breaker.stop();
  }

  /** Looks for another node in place of one that refuses all commands. A node redirects commands for a slot by itself. */
  #replace(name: string, { scope, replaceSocket }: Refusal, breaker: Breaker): void {
    if (scope !== 'node') return;
    this.#isReplacing ||= replaceSocket === 'at once';
    if (replaceSocket === 'at once' || (replaceSocket === 'if it lasts' && breaker.isOpen)) {
      this.#adapter.reconnect(name);
    } else this.#adapter.refreshTopology(name);
  }

  /** Deletes a key that does not exist, since a read or a PING would not be refused. */
  async #write(key: string): Promise<void> {
    if (this.#adapter.status(key) !== 'up') throw new ConnectionError('the node is not connected');
    try {
      await this.#adapter.send(key, ['DEL', probeKey(key)]);
    } catch (thrown) {
      const error = this.#adapter.errorOf(thrown);
      const refusal = refusalOf(error);
      // Any other error reply shows that the node serves the key.
      if (error instanceof ReplyError && (refusal === undefined || refusal.scope === 'command')) return;
      if (error instanceof ReplyError && refusal !== undefined) this.refused(key, refusal, error);
      throw error;
    }
  }

  #named(name: string): Breaker {
    let breaker = this.#breakers.get(name);
    if (breaker === undefined) {
      breaker = new Breaker({
        timeoutMs: this.#timeoutMs,
        probe: (key) => this.#ping(name, key),
        unanswered: () => this.#adapter.refreshTopology(name),
        changed: (isOpen) =>
          this.#events.emit('connection:breaker', { node: name, state: isOpen ? 'open' : 'closed' }),
        refuses: (error) => this.#refusalChanged(name, error),
      });
      this.#breakers.set(name, breaker);
    }
    return breaker;
  }

  /** `key`: the key of a command that the node did not answer. */
  #ping(name: string, key: string): Promise<unknown> | undefined {
    const answer = this.#adapter.ping(name);
    // The node has left the cluster; the nodes that serve its slots have breakers of their own.
    if (answer === undefined) this.#breakers.delete(name);
    return answer?.catch((error: unknown) => {
      const refusal = refusalOf(error);
      // The address of a frozen master may lead to a server that refuses even a PING.
      const isOfNode = refusal?.scope === 'node' && this.#adapter.nodeOf(key) === name;
      if (isOfNode && error instanceof ReplyError) this.refused(key, refusal, error);
      throw error;
    });
  }

  #refusalChanged(name: string, error: Error | undefined): void {
    if (error !== undefined) this.#refusals.set(name, error);
    else {
      this.#refusals.delete(name);
      // Usually a node takes all slots of another one. A slot that is still unserved is noticed by its next command.
      if (name === UNSERVED_SLOTS) this.#unservedSlots.clear();
      if (this.#isReplacing) this.#listeners.nodeReplaced();
      this.#isReplacing = false;
    }
    this.#listeners.refusalsChanged();
  }
}
