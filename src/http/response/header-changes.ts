import type { ServerResponse } from 'node:http';

const CHANGES: unique symbol = Symbol('the changes of the headers of the response');

type Setters = Pick<ServerResponse, 'setHeader' | 'appendHeader' | 'removeHeader'>;

interface Watched {
  readonly [CHANGES]: Changes;
}

interface Changes {
  readonly original: Setters;
  /** When each header was last set or removed, by its name in lower case. */
  readonly last: Map<string, number>;
  count: number;
}

/** In the place of the response's own methods; the same for all responses, so that calls of them stay fast. */
const WATCHED = {
  setHeader(this: Watched, ...args: unknown[]) {
    return change(this, 'setHeader', args);
  },
  appendHeader(this: Watched, ...args: unknown[]) {
    return change(this, 'appendHeader', args);
  },
  removeHeader(this: Watched, ...args: unknown[]) {
    return change(this, 'removeHeader', args);
  },
};

function change(res: Watched, method: keyof Setters, args: unknown[]): unknown {
  const changes = res[CHANGES];
  const result: unknown = Reflect.apply(changes.original[method], res, args);
  changes.last.set(String(args[0]).toLowerCase(), ++changes.count);
  return result;
}

/**
 * Watches from now on which headers are set or removed, also to the value that they have already: comparing values cannot
 * show that. Returns whether a header was, by its name in lower case. Responses are watched only where one is to be stored.
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
