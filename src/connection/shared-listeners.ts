import type { EventEmitter } from 'node:events';

type Handler = (...args: never[]) => void;

const shared = new WeakMap<object, SharedListeners>();

/**
 * Adds handlers to a client and returns a function that removes them. All kits of a process share one listener per
 * event: with one for each kit, the eleventh kit on a client would cause Node's warning about a listener leak.
 */
export function listen(
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

/** node-redis hands out objects that inherit their listeners from the real client, which is the one that emits. */
function emitterOf(client: object): object {
  let emitter = client;
  while (!Object.hasOwn(emitter, '_events')) {
    const parent: object | null = Object.getPrototypeOf(emitter);
    if (parent === null) return client;
    emitter = parent;
  }
  return emitter;
}

class SharedListeners {
  /**
   * Node's emitter starts an empty set of listeners once the count on the object reaches zero, and the lender's would no
   * longer be called where the lender added them through another object. So the counting is done on an object of our own,
   * and so is the limit above which Node warns: a lender may have ten listeners already.
   */
  readonly #view: EventEmitter;
  readonly #events = new Map<
    string,
    { readonly handlers: Set<Handler>; listener(...args: unknown[]): void }
  >();

  constructor(emitter: object) {
    this.#view = Object.create(emitter, {
      _eventsCount: { value: 1, writable: true },
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
