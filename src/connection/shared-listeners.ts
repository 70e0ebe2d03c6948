import type { EventEmitter } from 'node:events';

type Handler = (...args: never[]) => void;

const shared = new WeakMap<object, SharedListeners>();

/**
 * Adds handlers to a client and returns a function that removes them. All kits of a process that use a client share one
 * listener per event: with a listener for each kit, the eleventh kit on a client would cause Node's warning about a
 * listener leak.
 */
export function addSharedListeners(
  client: Pick<EventEmitter, 'on' | 'off'>,
  handlers: Readonly<Record<string, Handler>>,
): () => void {
  const emitter = emitterOf(client);
  const listeners = shared.get(emitter) ?? new SharedListeners(emitter);
  shared.set(emitter, listeners);
  const entries = Object.entries(handlers);
  for (const [event, handler] of entries) listeners.add(event, handler);
  return () => {
    for (const [event, handler] of entries) listeners.remove(event, handler);
  };
}

/** Finds the real client, which emits the events: it is the prototype of the objects that node-redis returns. */
function emitterOf(client: object): object {
  let emitter = client;
  while (!Object.hasOwn(emitter, '_events')) {
    const parent: object | null = Object.getPrototypeOf(emitter);
    if (parent === null) return client;
    emitter = parent;
  }
  return emitter;
}

interface CountingEmitter {
  _eventsCount: number;
}

/** More than the number of events that any emitter has. */
const MANY_EVENTS = 2 ** 30;

class SharedListeners {
  /** An object with the emitter as its prototype: it has a limit of its own for Node's warning about listener leaks. */
  readonly #view: EventEmitter;
  readonly #events = new Map<
    string,
    { readonly handlers: Set<Handler>; listener(...args: unknown[]): void }
  >();

  constructor(emitter: object) {
    const counting = emitter as CountingEmitter;
    // Node's emitter replaces the table of its listeners when their count becomes zero. Listeners that were added through
    // another object are in the table and not in the count, and would be dropped.
    counting._eventsCount += MANY_EVENTS;
    this.#view = Object.create(emitter, {
      _eventsCount: {
        get: () => counting._eventsCount,
        set: (count: number) => {
          counting._eventsCount = count;
        },
      },
      _maxListeners: { value: 0, writable: true },
    }) as EventEmitter;
  }

  add(event: string, handler: Handler): void {
    const known = this.#events.get(event);
    if (known !== undefined) {
      known.handlers.add(handler);
      return;
    }
    const handlers = new Set([handler]);
    const listener = (...args: unknown[]) => {
      for (const each of [...handlers]) Reflect.apply(each, undefined, args);
    };
    this.#events.set(event, { handlers, listener });
    this.#view.on(event, listener);
  }

  remove(event: string, handler: Handler): void {
    const entry = this.#events.get(event);
    if (entry === undefined || !entry.handlers.delete(handler) || entry.handlers.size > 0) return;
    this.#events.delete(event);
    this.#view.off(event, entry.listener);
  }
}
