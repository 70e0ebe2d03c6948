import type { ServerResponse } from 'node:http';
import { type InterceptedMethods, MethodInterception } from './method-interception.ts';
import { type ResponseState, stateOf } from './response-state.ts';

type Setter = 'setHeader' | 'appendHeader' | 'removeHeader';

const interception = new MethodInterception<Setter>(
  'changes of headers',
  ['setHeader', 'appendHeader', 'removeHeader'],
  ({ headerChanges }: WatchedState) => headerChanges,
);

type WatchedState = ResponseState & { headerChanges?: HeaderChanges };

/** Numbers the changes of a response's headers. */
class HeaderChanges {
  readonly methods: InterceptedMethods<Setter>;
  readonly #res: ServerResponse;
  /** The number of each header's last change, by the header's name in lower case. */
  readonly #last = new Map<string, number>();
  #count = 0;

  constructor(res: ServerResponse) {
    this.#res = res;
    this.methods = interception.begin(res);
  }

  get count(): number {
    return this.#count;
  }

  /** The number of the last change of a header, by its name in lower case; 0 if it was not changed. */
  lastOf(name: string): number {
    return this.#last.get(name) ?? 0;
  }

  intercept(setter: Setter, args: unknown[]): unknown {
    const result: unknown = Reflect.apply(this.methods.below[setter], this.#res, args);
    this.#last.set(String(args[0]).toLowerCase(), ++this.#count);
    return result;
  }
}

/**
 * Watches which headers are set or removed from now on, even if their values stay the same. The returned function takes
 * a header's name in lower case and returns whether the header was set or removed.
 */
export function watchHeaders(res: ServerResponse): (name: string) => boolean {
  const state: WatchedState = stateOf(res);
  state.headerChanges ??= new HeaderChanges(res);
  const changes = state.headerChanges;
  const { count } = changes;
  return (name) => changes.lastOf(name) > count;
}
