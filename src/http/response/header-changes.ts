import type { ServerResponse } from 'node:http';

const CHANGES: unique symbol = Symbol('the header changes of the response');

type Setters = Pick<ServerResponse, 'setHeader' | 'appendHeader' | 'removeHeader'>;

interface WatchedResponse {
  readonly [CHANGES]: Changes;
}

interface Changes {
  readonly original: Setters;
  /** The sequence number of each header's last change, by the header's name in lower case. */
  readonly last: Map<string, number>;
  count: number;
}

/** The methods that replace those of a response. All responses share them, so that V8 can optimize their calls. */
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
 * Watches which headers are set or removed from now on, even if their values stay the same. The returned function takes
 * a header's name in lower case and returns whether the header was set or removed.
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
