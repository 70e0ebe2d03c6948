import { inspect } from 'node:util';

/**
 * Makes `util.inspect()` and `JSON.stringify()` show only these properties of an object. Everything else that the object
 * refers to stays out of logs, such as a client with its password. Returns the object.
 */
export function showOnly<Shown extends object>(object: Shown, name: string, shown: object): Shown {
  Object.defineProperties(object, {
    [inspect.custom]: { value: () => `${name} ${inspect(shown)}` },
    toJSON: { value: () => shown },
  });
  return object;
}
