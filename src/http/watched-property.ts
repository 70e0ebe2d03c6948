/** What happens to a property while it is watched. */
export interface PropertyListener {
  /** Called before each read. The result is what the reader gets in place of the value. */
  read(value: unknown): unknown;
  assigned?(value: unknown): void;
}

/** The watches by their getters: one may be in front of another, where two caches handle the same request. */
const watches = new WeakMap<() => unknown, WatchedProperty>();

/**
 * An accessor in front of a property, whatever provides its value: the object itself, a getter, a prototype, or an
 * assignment that comes later.
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
    // A property that cannot be configured is not watched, and counts as replaced.
    Reflect.defineProperty(target, name, { configurable: true, enumerable: true, get: this.#get, set });
    watches.set(this.#get, this);
  }

  /** Whether it was deleted or redefined, so that reads are no longer seen. */
  get isReplaced(): boolean {
    return this.#isInFront ? false : this.#inFront() === undefined;
  }

  /** Puts back what is there, unless the property was replaced. */
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

  /** The watch directly in front of this one. */
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
    // A setter of the prototype takes the value. Otherwise our accessor is in the way, and the value is the object's own.
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
