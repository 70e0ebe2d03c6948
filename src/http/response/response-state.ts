import type { ServerResponse } from 'node:http';

/** All copies of the kit in a process have this symbol, since they share the methods on Node's prototypes. */
const STATE: unique symbol = Symbol.for('redis-kit: the state of a response, version 1');
/** For the state of a copy of the kit that finds the state of another copy. */
const SECOND_STATE: unique symbol = Symbol('the state of a response');

/**
 * Everything that the kit stores about a response. It is one property of the response, since each further one can cost
 * microseconds: Express gives every response its own hidden class. Other files extend this type with their properties.
 */
export class ResponseState {
  /** Called if the request becomes unserved. */
  releases: (() => void)[] | undefined = undefined;
  isUnserved = false;
}

type StatefulResponse = ServerResponse & { [STATE]?: ResponseState; [SECOND_STATE]?: ResponseState };

/** The state of a response; undefined if the kit has stored nothing about it. */
export function knownStateOf(res: StatefulResponse): ResponseState | undefined {
  const state = res[STATE];
  return state === undefined || state instanceof ResponseState ? state : res[SECOND_STATE];
}

export function stateOf(res: StatefulResponse): ResponseState {
  const state = res[STATE];
  if (state instanceof ResponseState) return state;
  if (state === undefined) {
    res[STATE] = new ResponseState();
    return res[STATE];
  }
  res[SECOND_STATE] ??= new ResponseState();
  return res[SECOND_STATE];
}

/** The state that the methods on the prototype use. It may be that of another copy of the kit. */
export function sharedStateOf(res: StatefulResponse): ResponseState | undefined {
  return res[STATE];
}
