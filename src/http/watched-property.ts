export interface PropertyListener {
  /** Called on each read. The reader receives the result in place of the value. */
  read(value: unknown): unknown;
  assigned?(value: unknown): void;
}

/** Watches by their getters. A property has several watches if two caches handle the same request. */
const watches = new WeakMap<() => unknown, WatchedProperty>();

/**
 * Replaces a property with an accessor that reports reads and assignments. The value may come from the object, from a
 * getter, from the prototype or from a later assignment.
 */
export class WatchedProperty {
  readonly #target: object;
  readonly #name: string;
  readonly #listener: PropertyListener;
  readonly #get = (): unknown => this.#listener.read(this.#value());
  #own: PropertyDescriptor | undefined;

  constructor(target: object, name: string, listener: PropertyListener) {
    this.#target = target;
    this.#name = name;
    this.#listener = listener;
    this.#own = Object.getOwnPropertyDescriptor(target, name);
    const set = (value: unknown) => this.#set(value);
    // Fails for a property that is not configurable: `isReplaced` is then true.
    Reflect.defineProperty(target, name, { configurable: true, enumerable: true, get: this.#get, set });
    watches.set(this.#get, this);
  }

  /** Whether the property was deleted or redefined, so that reads are no longer reported. */
  get isReplaced(): boolean {
    return this.#isInFront ? false : this.#inFront() === undefined;
  }

  /** Restores the property, unless the app has replaced it. */
  stop(): void {
    const inFront = this.#inFront();
    if (inFront !== undefined) inFront.#own = this.#own;
    else if (!this.#isInFront) return;
    else if (this.#own === undefined) Reflect.deleteProperty(this.#target, this.#name);
    else Object.defineProperty(this.#target, this.#name, this.#own);
  }

  get #isInFront(): boolean {
    return this.#currentGetter === this.#get;
  }

  get #currentGetter(): (() => unknown) | undefined {
    return Object.getOwnPropertyDescriptor(this.#target, this.#name)?.get;
  }

  /** The watch that was installed directly after this one; undefined if the property no longer leads to this watch. */
  #inFront(): WatchedProperty | undefined {
    let watch = watchOf(this.#currentGetter);
    while (watch !== undefined && watch.#own?.get !== this.#get) watch = watchOf(watch.#own?.get);
    return watch;
  }

  #value(): unknown {
    const own = this.#own;
    if (own === undefined) return Reflect.get(this.#prototype, this.#name, this.#target);
    return own.get === undefined ? (own.value as unknown) : (own.get.call(this.#target) as unknown);
  }

  #set(value: unknown): void {
    if (this.#own?.set !== undefined) this.#own.set.call(this.#target, value);
    // A setter of the prototype receives the value. Without a setter, the value becomes the object's own property.
    else if (this.#own !== undefined || !Reflect.set(this.#prototype, this.#name, value, this.#target)) {
      this.#own = { configurable: true, enumerable: true, writable: true, value };
    }
    this.#listener.assigned?.(value);
  }

  get #prototype(): object {
    return Object.getPrototypeOf(this.#target) as object;
  }
}

function watchOf(getter: (() => unknown) | undefined): WatchedProperty | undefined {
  return getter === undefined ? undefined : watches.get(getter);
}
