import { inspect } from 'node:util';
import type { Logger } from './logger.ts';
import { isThenable } from './thenable.ts';

type Listener<Event> = (event: Event) => void;

/** An event emitter. A listener that throws or rejects is logged and does not fail the request that emits the event. */
export class Emitter<EventMap extends object> {
  readonly #listeners = new Map<keyof EventMap, Set<Listener<never>>>();
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  on<Name extends keyof EventMap>(name: Name, listener: Listener<EventMap[Name]>): () => void {
    let listeners = this.#listeners.get(name);
    if (listeners === undefined) {
      listeners = new Set();
      this.#listeners.set(name, listeners);
    }
    const entry: Listener<EventMap[Name]> = (event) => listener(event);
    listeners.add(entry);
    return () => void listeners.delete(entry);
  }

  emit<Name extends keyof EventMap>(name: Name, event: EventMap[Name]): void {
    const listeners = this.#listeners.get(name);
    if (listeners === undefined) return;
    const failed = (error: unknown) =>
      this.#logger.error(`a listener for '${String(name)}' failed: ${inspect(error)}`);
    // Iterates over a copy, since a listener may add or remove listeners.
    for (const listener of [...listeners]) {
      callListener(() => (listener as (event: EventMap[Name]) => unknown)(event), failed);
    }
  }
}

/** Calls a user's function; `failed` receives the error that the function throws or rejects with. */
export function callListener(call: () => unknown, failed: (error: unknown) => void): void {
  try {
    const result = call();
    if (isThenable(result)) Promise.resolve(result).catch(failed);
  } catch (error) {
    failed(error);
  }
}
