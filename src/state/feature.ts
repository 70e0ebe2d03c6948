import type { IncomingMessage } from 'node:http';
import type { Keys } from '../base/keys.ts';
import type { Req } from '../http/middleware.ts';
import { type StateMiddleware, stateMiddleware } from './middleware.ts';
import type { StateOptions } from './options.ts';
import type { StateDeps } from './scope.ts';

export interface StateMethods {
  /**
   * Returns middleware that sets `req.state`: JSON values of the app, of a user and of a session, each with a lifetime
   * of its own. The middleware sends no command. Its properties `app`, `user(id)` and `session(id)` give the same state
   * to code outside of a request.
   */
  state<Request extends IncomingMessage = Req>(options: StateOptions<Request>): StateMiddleware;
}

export function stateFeature(kit: Omit<StateDeps, 'keys'>) {
  return (keys: Keys): StateMethods => ({
    state: (options: StateOptions<never>) => stateMiddleware(options, { ...kit, keys }),
  });
}
