interface Link<Value> {
  readonly value: Value;
  before: Link<Value> | undefined;
  after: Link<Value> | undefined;
}

/**
 * A Set whose first value is found in constant time. An iterator of a Set skips the places of all values that were
 * deleted before it, which makes a long queue slow.
 */
export class Fifo<Value> {
  readonly #links = new Map<Value, Link<Value>>();
  #first: Link<Value> | undefined;
  #last: Link<Value> | undefined;

  get size(): number {
    return this.#links.size;
  }

  get first(): Value | undefined {
    return this.#first?.value;
  }

  add(value: Value): void {
    if (this.#links.has(value)) return;
    const link = { value, before: this.#last, after: undefined };
    this.#links.set(value, link);
    if (this.#last === undefined) this.#first = link;
    else this.#last.after = link;
    this.#last = link;
  }

  delete(value: Value): void {
    const link = this.#links.get(value);
    if (link === undefined) return;
    this.#links.delete(value);
    const { before, after } = link;
    if (before === undefined) this.#first = after;
    else before.after = after;
    if (after === undefined) this.#last = before;
    else after.before = before;
  }

  values(): Value[] {
    return [...this.#links.keys()];
  }
}
