/** What happens to a property while it is watched. */
export interface PropertyListener {
  /** Called before each read. The result is what the reader gets in place of the value. */
  read(value: unknown): unknown;
  assigned?(value: unknown): void;
}

export interface WatchedProperty {
  /** Whether somebody has deleted or redefined it, so that reads are no longer seen. */
  readonly isReplaced: boolean;
  /** Puts back what is there, unless the property was replaced. */
  stop(): void;
}

/**
 * Puts an accessor in front of a property, whatever provides its value: the object itself, a getter, a prototype, or an
 * assignment that comes later.
 */
export function watchProperty(target: object, name: string, listener: PropertyListener): WatchedProperty {
  let own = Object.getOwnPropertyDescriptor(target, name);

  function get(): unknown {
    return listener.read(current());
  }

  function current(): unknown {
    if (own === undefined) return Reflect.get(Object.getPrototypeOf(target) as object, name, target);
    return own.get === undefined ? (own.value as unknown) : (own.get.call(target) as unknown);
  }

  function set(value: unknown): void {
    if (own?.set !== undefined) own.set.call(target, value);
    // A setter of the prototype takes the value. Otherwise our accessor is in the way, and the value is the object's own.
    else if (
      own !== undefined ||
      !Reflect.set(Object.getPrototypeOf(target) as object, name, value, target)
    ) {
      own = { configurable: true, enumerable: true, writable: true, value };
    }
    listener.assigned?.(value);
  }

  const isDefined = Reflect.defineProperty(target, name, { configurable: true, enumerable: true, get, set });
  const isOurs = () => isDefined && Object.getOwnPropertyDescriptor(target, name)?.get === get;
  return {
    get isReplaced() {
      return !isOurs();
    },
    stop() {
      if (!isOurs()) return;
      if (own === undefined) Reflect.deleteProperty(target, name);
      else Object.defineProperty(target, name, own);
    },
  };
}
