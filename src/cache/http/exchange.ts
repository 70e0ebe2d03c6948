import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Keys } from '../../base/keys.ts';
import type { KeySettings } from './key-options.ts';
import { type RequestKey, requestKey } from './request-key.ts';
import { type ResponseMemory, ResponsePlace } from './response-place.ts';

/** One request on its way through a cache. */
export class Exchange {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  /** Where the response is stored. */
  readonly place: ResponsePlace;

  constructor(req: IncomingMessage, res: ServerResponse, place: ResponsePlace) {
    this.req = req;
    this.res = res;
    this.place = place;
  }

  /** The key of the place: another one once the request has waited and more is known of which part of its query counts. */
  get key(): RequestKey {
    return this.place.key;
  }
}

/** Where the response to a request belongs, by what is known of such responses; undefined when it is not to be cached. */
export function placeOfRequest(
  req: IncomingMessage,
  settings: KeySettings,
  memory: ResponseMemory,
  keys: Keys,
): ResponsePlace | undefined {
  const exact = requestKey(req, settings);
  return exact && new ResponsePlace(req, memory.rules.keyUnder(exact), memory, keys);
}
