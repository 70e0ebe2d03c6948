import type { ServerResponse } from 'node:http';

const CHANGES: unique symbol = Symbol('the header changes of the response');

type Setters = Pick<ServerResponse, 'setHeader' | 'appendHeader' | 'removeHeader'>;

interface WatchedResponse {
  readonly [CHANGES]: Changes;
}

interface Changes {
  readonly original: Setters;
  /** The number of the last change of each header, by its name in lower case. */
  readonly last: Map<string, number>;
  count: number;
}

/** Replace the methods of a response. The same functions for all responses, so that V8 can optimize calls of them. */
const WATCHED = {
  setHeader: watched('setHeader'),
  appendHeader: watched('appendHeader'),
  removeHeader: watched('removeHeader'),
};

function watched(method: keyof Setters) {
  return function (this: WatchedResponse, ...args: unknown[]): unknown {
    const changes = this[CHANGES];
    const result: unknown = Reflect.apply(changes.original[method], this, args);
    changes.last.set(String(args[0]).toLowerCase(), ++changes.count);
    return result;
  };
}

/**
 * Watches which headers are set or removed from now on. Unlike a comparison of values it notices a header that is set to the
 * value that it has. The returned function tells whether a header, named in lower case, was changed.
 */
export function watchHeaders(res: ServerResponse & { [CHANGES]?: Changes }): (name: string) => boolean {
  const changes = changesOf(res);
  const { count } = changes;
  return (name) => (changes.last.get(name) ?? 0) > count;
}

function changesOf(res: ServerResponse & { [CHANGES]?: Changes }): Changes {
  const known = res[CHANGES];
  if (known !== undefined) return known;
  const { setHeader, appendHeader, removeHeader } = res;
  const changes: Changes = { original: { setHeader, appendHeader, removeHeader }, last: new Map(), count: 0 };
  res[CHANGES] = changes;
  Object.assign(res, WATCHED);
  return changes;
}
