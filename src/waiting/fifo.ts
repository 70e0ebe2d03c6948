import { type Link, LinkedList } from '../base/linked-list.ts';

/**
 * A Set whose first value is found in constant time. An iterator of a Set skips the places of all values that were
 * deleted before it, which makes a long queue slow.
 */
export class Fifo<Value> {
  readonly #links = new Map<Value, Link<Value>>();
  readonly #list = new LinkedList<Value>();

  get size(): number {
    return this.#list.size;
  }

  get first(): Value | undefined {
    return this.#list.first;
  }

  add(value: Value): void {
    if (!this.#links.has(value)) this.#links.set(value, this.#list.add(value));
  }

  delete(value: Value): void {
    const link = this.#links.get(value);
    if (link === undefined) return;
    this.#links.delete(value);
    this.#list.remove(link);
  }

  values(): Value[] {
    return this.#list.links().map(({ value }) => value);
  }
}
