/** Keeps objects by name, until nothing else refers to them and they are garbage-collected. */
export class WeakRegistry<Value extends object> {
  readonly #references = new Map<string, WeakRef<Value>>();
  readonly #collected = new FinalizationRegistry<string>((name) => {
    // A new object may have been registered under the name since.
    if (this.#references.get(name)?.deref() === undefined) this.#references.delete(name);
  });

  get(name: string, make: () => Value): Value {
    const existing = this.#references.get(name)?.deref();
    if (existing !== undefined) return existing;
    const value = make();
    this.#references.set(name, new WeakRef(value));
    this.#collected.register(value, name);
    return value;
  }
}
