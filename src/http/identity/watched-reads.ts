export interface ReadListener {
  read(name: string | symbol): void;
  /** Called when the keys are listed, as for a copy of the object. */
  readAll(): void;
}

/** A Proxy that reports reads, even of absent properties: accessors for those would make them appear in copies. */
export function watchedReads(watched: object, { read, readAll }: ReadListener): object {
  return new Proxy(watched, {
    get(target, name) {
      read(name);
      return Reflect.get(target, name) as unknown;
    },
    has(target, name) {
      read(name);
      return Reflect.has(target, name);
    },
    getOwnPropertyDescriptor(target, name) {
      read(name);
      return Reflect.getOwnPropertyDescriptor(target, name);
    },
    ownKeys(target) {
      readAll();
      return Reflect.ownKeys(target);
    },
  });
}
