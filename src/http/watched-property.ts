export interface PropertyListener {
  /** Called on each read. The reader receives the result in place of the value. */
  read(value: unknown): unknown;
  assigned?(value: unknown): void;
}

const WATCHES: unique symbol = Symbol('the watched properties of an object');

/** The last watch of each property of an object. A property has several if two caches handle the same request. */
type Watched = object & { [WATCHES]?: Record<string, WatchedProperty | undefined> };

type Accessor = Required<Pick<PropertyDescriptor, 'get' | 'set'>>;

/**
 * The accessors by the names of properties. All objects share them: a function of its own would give each object hidden
 * classes of its own, which V8 allocates as old objects. They would keep the function, and the object, until the next full
 * garbage collection.
 */
const accessors = new Map<string, Accessor>();

function accessorOf(name: string): Accessor {
  let accessor = accessors.get(name);
  if (accessor === undefined) {
    accessor = {
      get(this: Watched): unknown {
        return this[WATCHES]?.[name]?.read();
      },
      set(this: Watched, value: unknown): void {
        this[WATCHES]?.[name]?.assign(value);
      },
    };
    accessors.set(name, accessor);
  }
  return accessor;
}

/**
 * Replaces a property with an accessor that reports reads and assignments. The value may come from the object, from a
 * getter, from the prototype or from a later assignment.
 */
export class WatchedProperty {
  readonly #target: Watched;
  readonly #name: string;
  readonly #listener: PropertyListener;
  /** The watch over which this one was installed. */
  #below: WatchedProperty | undefined;
  /** The property that the lowest watch has replaced. */
  #own: PropertyDescriptor | undefined;

  constructor(target: Watched, name: string, listener: PropertyListener) {
    this.#target = target;
    this.#name = name;
    this.#listener = listener;
    const accessor = accessorOf(name);
    target[WATCHES] ??= {};
    if (this.#isWatched) this.#below = target[WATCHES][name];
    else {
      this.#own = Object.getOwnPropertyDescriptor(target, name);
      // Fails for a property that is not configurable: `isReplaced` is then true.
      Reflect.defineProperty(target, name, { configurable: true, enumerable: true, ...accessor });
    }
    target[WATCHES][name] = this;
  }

  /** Whether the property was deleted or redefined, so that reads are no longer reported. */
  get isReplaced(): boolean {
    return this.#isWatched ? this.#front !== this && this.#above() === undefined : true;
  }

  /** Restores the property, unless the app has replaced it. */
  stop(): void {
    if (!this.#isWatched) return;
    const above = this.#above();
    if (above !== undefined) {
      above.#below = this.#below;
      above.#own = this.#own;
    } else if (this.#front === this) this.#restore();
  }

  /** The value of the property, as its listener reports it. */
  read(): unknown {
    return this.#listener.read(this.#below === undefined ? this.#value() : this.#below.read());
  }

  assign(value: unknown): void {
    if (this.#below !== undefined) this.#below.assign(value);
    else if (this.#own?.set !== undefined) this.#own.set.call(this.#target, value);
    // A setter of the prototype receives the value. Without a setter, the value becomes the object's own property.
    else if (this.#own !== undefined || !Reflect.set(this.#prototype, this.#name, value, this.#target)) {
      this.#own = { configurable: true, enumerable: true, writable: true, value };
    }
    this.#listener.assigned?.(value);
  }

  #restore(): void {
    const { [WATCHES]: watches = {} } = this.#target;
    watches[this.#name] = this.#below;
    if (this.#below !== undefined) return;
    if (this.#own === undefined) Reflect.deleteProperty(this.#target, this.#name);
    else Object.defineProperty(this.#target, this.#name, this.#own);
  }

  /** Whether reads of the property reach a watch. */
  get #isWatched(): boolean {
    const getter = Object.getOwnPropertyDescriptor(this.#target, this.#name)?.get;
    return getter === accessorOf(this.#name).get;
  }

  get #front(): WatchedProperty | undefined {
    return this.#target[WATCHES]?.[this.#name];
  }

  /** The watch that was installed directly over this one. */
  #above(): WatchedProperty | undefined {
    let watch = this.#front;
    while (watch !== undefined && watch.#below !== this) watch = watch.#below;
    return watch;
  }

  #value(): unknown {
    const own = this.#own;
    if (own === undefined) return Reflect.get(this.#prototype, this.#name, this.#target);
    return own.get === undefined ? (own.value as unknown) : (own.get.call(this.#target) as unknown);
  }

  get #prototype(): object {
    return Object.getPrototypeOf(this.#target) as object;
  }
}
