import type { ServerResponse } from 'node:http';
import { type Method, markAbove, methodBelow, nodePrototypeOf } from './method-interception.ts';
import { type ResponseState, sharedStateOf, stateOf } from './response-state.ts';

type Flag = 'headersSent' | 'writableNeedDrain';

/** Returns the value of a flag, or undefined for Node's own value. */
type Override = () => boolean | undefined;

type FlagState = ResponseState & { [Name in Flag]?: Override };

/**
 * Overrides a boolean property of a response. Returns a function that reads Node's own value. The getter is on the
 * prototype, as intercepted methods are, or on a response that has another property in front.
 */
export function overrideFlag(res: ServerResponse, name: Flag, override: Override): () => boolean {
  const state: FlagState = stateOf(res);
  state[name] = override;
  const isShared = sharedStateOf(res) === state;
  const getter = isShared ? prototypeGetterOf(res, name) : undefined;
  if (getter !== undefined && getter === getterInFront(res, name)) {
    const native = methodBelow(getter);
    return () => native.call(res) === true;
  }
  const { get, set } = accessorOf(res, name);
  const readNative = () => get?.call(res) === true;
  Object.defineProperty(res, name, {
    configurable: true,
    enumerable: true,
    get: () => override() ?? readNative(),
    ...(set === undefined ? {} : { set }),
  });
  return readNative;
}

/** The getter on the prototype of Node's class, which is installed once. HTTP/2 responses have no `writableNeedDrain`. */
function prototypeGetterOf(res: ServerResponse, name: Flag): Method | undefined {
  const prototype = nodePrototypeOf(res);
  const native = prototype === undefined ? undefined : getterInFront(prototype, name);
  if (prototype === undefined || native === undefined || methodBelow(native) !== native) return native;
  const getter = markAbove(native, function (this: ServerResponse): unknown {
    const state: FlagState | undefined = sharedStateOf(this);
    return state?.[name]?.() ?? native.call(this);
  });
  Reflect.defineProperty(prototype, name, { configurable: true, enumerable: true, get: getter });
  return getter;
}

function getterInFront(object: object, name: Flag): Method | undefined {
  for (let owner: object | null = object; owner !== null; owner = Object.getPrototypeOf(owner)) {
    const descriptor = Object.getOwnPropertyDescriptor(owner, name);
    if (descriptor !== undefined) return descriptor.get;
  }
  return undefined;
}

/** The accessor of a boolean property. A plain property, as mock responses have, is converted to an accessor. */
function accessorOf(res: ServerResponse, name: Flag): PropertyDescriptor {
  let value = false;
  for (let owner: object | null = res; owner !== null; owner = Object.getPrototypeOf(owner)) {
    const descriptor = Object.getOwnPropertyDescriptor(owner, name);
    if (descriptor?.get !== undefined) return descriptor;
    value ||= descriptor?.value === true;
  }
  const accessor = {
    configurable: true,
    get: () => value,
    set(assigned: unknown) {
      value = assigned === true;
    },
  };
  Object.defineProperty(res, name, accessor);
  return accessor;
}
