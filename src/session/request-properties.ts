import { IncomingMessage } from 'node:http';

/** The values of the properties `session`, `sessionID` and `sessionStore` of a request. */
export interface SessionProperties {
  session: unknown;
  sessionID: unknown;
  sessionStore: unknown;
}

type Name = keyof SessionProperties;

/** Shared by all copies of the kit, since they share the accessors. */
const PROPERTIES: unique symbol = Symbol.for('redis-kit: the session of a request, version 1');

type MaybeWithSession = object & { [PROPERTIES]?: SessionProperties };

/** An own property of each request, so that `delete req.session` has the effect that express-session documents. */
const SESSION: PropertyDescriptor = { ...accessorOf('session'), enumerable: true };

const SHARED_NAMES = ['sessionID', 'sessionStore'] as const;

let isShared = false;

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
 * microseconds. The others are accessors of the prototype of Node's class, which a request keeps in each app. A request of
 * another class, as of HTTP/2 or a mock, gets properties of its own.
 */
export function defineProperties(req: MaybeWithSession, properties: SessionProperties): void {
  setPropertiesOf(req, properties);
  Object.defineProperty(req, 'session', SESSION);
  const inherits = req instanceof IncomingMessage;
  if (inherits) shareAccessors();
  for (const name of SHARED_NAMES) {
    if (!inherits) Object.defineProperty(req, name, { ...accessorOf(name), enumerable: true });
    // Left by other session middleware above.
    else if (Object.hasOwn(req, name)) Reflect.deleteProperty(req, name);
  }
}

/** Defines the accessors of `SHARED_NAMES` once, on a prototype that all requests of Node have in common. */
function shareAccessors(): void {
  if (isShared) return;
  for (const name of SHARED_NAMES) {
    Object.defineProperty(IncomingMessage.prototype, name, accessorOf(name));
  }
  isShared = true;
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
