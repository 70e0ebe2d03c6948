/** A value of a list, with which it can be removed. */
export interface Link<Value> {
  readonly value: Value;
  before: Link<Value> | undefined;
  after: Link<Value> | undefined;
  isListed: boolean;
}

/**
 * Values that each request adds and removes. In a Set that lives long, they would survive collections of young garbage:
 * V8 often replaces the table of such a Set, and each old table keeps its last values and the next table alive as soon as
 * one of the tables has become old. Here a removed value refers to no other value.
 */
export class LinkedList<Value> {
  #first: Link<Value> | undefined;
  #last: Link<Value> | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get first(): Value | undefined {
    return this.#first?.value;
  }

  add(value: Value): Link<Value> {
    const link: Link<Value> = { value, before: this.#last, after: undefined, isListed: true };
    if (this.#last === undefined) this.#first = link;
    else this.#last.after = link;
    this.#last = link;
    this.#size++;
    return link;
  }

  /** Returns whether the value was in the list. */
  remove(link: Link<Value>): boolean {
    if (!link.isListed) return false;
    const { before, after } = link;
    if (before === undefined) this.#first = after;
    else before.after = after;
    if (after === undefined) this.#last = before;
    else after.before = before;
    link.isListed = false;
    link.before = undefined;
    link.after = undefined;
    this.#size--;
    return true;
  }

  /** The links of the values, in the order in which they were added. */
  links(): Link<Value>[] {
    const links: Link<Value>[] = [];
    for (let link = this.#first; link !== undefined; link = link.after) links.push(link);
    return links;
  }
}
