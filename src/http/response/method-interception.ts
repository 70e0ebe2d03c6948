import { ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import { knownStateOf, type ResponseState, sharedStateOf, stateOf } from './response-state.ts';

export type Method = (this: ServerResponse, ...args: unknown[]) => unknown;

const BELOW: unique symbol = Symbol.for('redis-kit: the method below');

export type Methods<Name extends string> = Readonly<Record<Name, Method>>;

/** The methods whose calls are intercepted, and those that they replaced. */
export interface InterceptedMethods<Name extends string> {
  readonly installed: Methods<Name>;
  readonly below: Methods<Name>;
}

/** Receives the calls of a response's methods. */
export interface Interceptor<Name extends string> {
  readonly methods: InterceptedMethods<Name>;
  intercept(name: Name, args: unknown[]): unknown;
}

/**
 * Intercepts methods of responses. The methods are installed once, on the prototypes of Node's classes: methods of its own
 * cost each response microseconds, and Express changes the prototype of a response on the way into a sub-app and back. A
 * response gets methods of its own only in place of methods in front of the prototype's, as those of middleware above or
 * of a mock.
 */
export class MethodInterception<Name extends string> {
  readonly #names: readonly Name[];
  readonly #interceptorIn: (state: ResponseState) => Interceptor<Name> | undefined;
  /** All copies of the kit in a process find the methods on a prototype by this symbol. */
  readonly #key: symbol;
  readonly #ownMethods: Methods<Name>;
  readonly #installed = new Map<object, InterceptedMethods<Name>>();

  constructor(
    subject: string,
    names: readonly Name[],
    interceptorIn: (state: ResponseState) => Interceptor<Name> | undefined,
  ) {
    this.#names = names;
    this.#interceptorIn = interceptorIn;
    this.#key = Symbol.for(`redis-kit: methods of responses for ${subject}, version 1`);
    this.#ownMethods = collect(names, (name) => this.#ownMethod(name));
  }

  /** Begins to intercept calls of a response, once its state has an interceptor with the returned methods. */
  begin(res: ServerResponse): InterceptedMethods<Name> {
    // The methods on the prototype find only the shared state.
    const shared = stateOf(res) === sharedStateOf(res) ? this.#methodsFor(res) : undefined;
    if (shared !== undefined && this.#isInFront(res, shared.installed)) return shared;
    // A mock may lack a method.
    const replaced = this.#names.filter(
      (name) => methodOf(res, name) && methodOf(res, name) !== shared?.installed[name],
    );
    const methods = {
      installed: { ...shared?.installed, ...collect(replaced, (name) => this.#ownMethods[name]) },
      below: { ...shared?.below, ...collect(replaced, (name) => methodOf(res, name)) },
    };
    for (const name of replaced) define(res, name, this.#ownMethods[name]);
    return methods as InterceptedMethods<Name>;
  }

  #isInFront(res: ServerResponse, methods: Methods<Name>): boolean {
    for (const name of this.#names) if (methodOf(res, name) !== methods[name]) return false;
    return true;
  }

  #methodsFor(res: ServerResponse): InterceptedMethods<Name> | undefined {
    const prototype = nodePrototypeOf(res);
    if (prototype === undefined) return undefined;
    const known = this.#installed.get(prototype);
    if (known !== undefined) return known;
    const methods = (Reflect.get(prototype, this.#key) ??
      this.#install(prototype)) as InterceptedMethods<Name>;
    this.#installed.set(prototype, methods);
    return methods;
  }

  #install(prototype: object): InterceptedMethods<Name> {
    const names = this.#names.filter((name) => typeof Reflect.get(prototype, name) === 'function');
    const below = collect(names, (name) => methodOf(prototype, name));
    const methods = { installed: below, below };
    methods.installed = collect(names, (name) => this.#prototypeMethod(name, methods));
    define(prototype, this.#key, methods);
    for (const name of names) define(prototype, name, methods.installed[name]);
    return methods;
  }

  #prototypeMethod(name: Name, methods: InterceptedMethods<Name>): Method {
    const interceptorIn = this.#interceptorIn;
    const below = methods.below[name];
    return markAbove(below, function (this: ServerResponse, ...args: unknown[]): unknown {
      const state = sharedStateOf(this);
      const interceptor = state === undefined ? undefined : interceptorIn(state);
      if (interceptor === undefined) return Reflect.apply(below, this, args);
      // If the response has a method of its own in front of this one, that method has intercepted the call.
      if (interceptor.methods !== methods && interceptor.methods.below[name] !== below) {
        return Reflect.apply(below, this, args);
      }
      return interceptor.intercept(name, args);
    });
  }

  #ownMethod(name: Name): Method {
    const interceptorIn = this.#interceptorIn;
    return function (this: ServerResponse, ...args: unknown[]): unknown {
      const state = knownStateOf(this);
      const interceptor = state && interceptorIn(state);
      return interceptor?.intercept(name, args);
    };
  }
}

export function markAbove(below: Method, method: Method): Method {
  return Object.assign(method, { [BELOW]: below });
}

/** The method that an intercepting method on a prototype has replaced. */
export function methodBelow(method: Method & { readonly [BELOW]?: Method }): Method {
  return method[BELOW] ?? method;
}

/** The prototype of the class of Node that a response extends. */
export function nodePrototypeOf(res: object): object | undefined {
  if (res instanceof ServerResponse) return ServerResponse.prototype;
  return res instanceof Http2ServerResponse ? Http2ServerResponse.prototype : undefined;
}

function collect<Name extends string>(
  names: readonly Name[],
  methodFor: (name: Name) => Method,
): Methods<Name> {
  return Object.fromEntries(names.map((name) => [name, methodFor(name)])) as Methods<Name>;
}

function methodOf(target: object, name: string): Method {
  return (target as Readonly<Record<string, Method>>)[name] as Method;
}

/** Calls `work` while the methods of a response are these, and not those of middleware below. */
export function withoutWrappers<Name extends string>(
  res: ServerResponse,
  methods: Methods<Name>,
  work: () => void,
): void {
  const names = Object.keys(methods).filter(
    (name) => methodOf(res, name) !== methods[name as Name],
  ) as Name[];
  const wrappers = collect(names, (name) => methodOf(res, name));
  for (const name of names) define(res, name, methods[name]);
  try {
    work();
  } finally {
    for (const name of names) define(res, name, wrappers[name]);
  }
}

/** Defines a method like an assignment. Unlike it, it succeeds although the object inherits from a frozen one. */
function define(target: object, key: string | symbol, value: unknown): void {
  const enumerable = typeof key === 'string';
  // Fails for a frozen prototype. Its responses get methods of their own.
  Reflect.defineProperty(target, key, { configurable: true, enumerable, writable: true, value });
}
