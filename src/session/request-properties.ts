import { IncomingMessage } from 'node:http';

/** The values of the properties `session`, `sessionID` and `sessionStore` of a request. */
export interface SessionProperties {
  session: unknown;
  sessionID: unknown;
  sessionStore: unknown;
}

type Name = keyof SessionProperties;

const PROPERTIES: unique symbol = Symbol('the session of a request');

type MaybeWithSession = object & { [PROPERTIES]?: SessionProperties };

/** An own property of each request, so that `delete req.session` has the effect that express-session documents. */
const SESSION: PropertyDescriptor = { ...accessorOf('session'), enumerable: true };

const SHARED_NAMES = ['sessionID', 'sessionStore'] as const;

/** The prototypes that have the accessors of `SHARED_NAMES`. */
const prototypes = new WeakSet<object>();

/** The properties of a request that a session middleware has handled, or of an object in place of a request. */
export function propertiesOf(req: MaybeWithSession): SessionProperties | undefined {
  return req[PROPERTIES];
}

/** Also for an object in place of a request, as express-session creates for a session that is loaded by its id. */
export function setPropertiesOf(req: MaybeWithSession, properties: SessionProperties): void {
  req[PROPERTIES] = properties;
}

/**
 * Gives a request the three properties, whose values are computed when they are read. Only `session` becomes a property
 * of the request itself: Express gives each request a hidden class of its own, so that each further property can cost
 * microseconds. The others are accessors of the request's prototype.
 */
export function defineProperties(req: MaybeWithSession, properties: SessionProperties): void {
  setPropertiesOf(req, properties);
  Object.defineProperty(req, 'session', SESSION);
  const prototype = sharedPrototypeOf(req);
  for (const name of SHARED_NAMES) {
    if (prototype === undefined) Object.defineProperty(req, name, { ...accessorOf(name), enumerable: true });
    // Left by other session middleware above.
    else if (Object.hasOwn(req, name)) Reflect.deleteProperty(req, name);
  }
}

/**
 * The prototype that gets the accessors: the one that follows Node's, which Express has in common for an app and its
 * sub-apps, else Node's. Undefined for a request that does not inherit from Node's class, as of HTTP/2 or a mock.
 */
function sharedPrototypeOf(req: object): object | undefined {
  let prototype = Object.getPrototypeOf(req) as object | null;
  // Found at once for the requests of an app after the first.
  for (let each = prototype; each !== null; each = Object.getPrototypeOf(each) as object | null) {
    if (prototypes.has(each)) return each;
  }
  while (prototype !== null && prototype !== IncomingMessage.prototype) {
    const next = Object.getPrototypeOf(prototype) as object | null;
    if (next === IncomingMessage.prototype) break;
    prototype = next;
  }
  if (prototype === null) return undefined;
  for (const name of SHARED_NAMES) Object.defineProperty(prototype, name, accessorOf(name));
  prototypes.add(prototype);
  return prototype;
}

/** Reads and writes the value of the request's session. For a request without one, it acts as an absent property. */
function accessorOf(name: Name): PropertyDescriptor {
  return {
    configurable: true,
    enumerable: false,
    get(this: MaybeWithSession): unknown {
      return this[PROPERTIES]?.[name];
    },
    set(this: MaybeWithSession, value: unknown): void {
      const properties = this[PROPERTIES];
      if (properties !== undefined) properties[name] = value;
      else Object.defineProperty(this, name, { configurable: true, enumerable: true, writable: true, value });
    },
  };
}
