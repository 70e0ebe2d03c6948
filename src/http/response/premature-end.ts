import type { ServerResponse } from 'node:http';
import { onClose } from './close-signal.ts';
import type { ResponseHook, ResponseHooks } from './response-hooks.ts';

/** Reports to the hooks a response that ends in another way than by `end()`. */
export class PrematureEnd {
  readonly #res: ServerResponse;
  readonly #hooks: ResponseHooks;
  readonly #hasEnded: () => boolean;
  #listensForClose = false;
  #listensForDestroy = false;

  constructor(res: ServerResponse, hooks: ResponseHooks, hasEnded: () => boolean) {
    this.#res = res;
    this.#hooks = hooks;
    this.#hasEnded = hasEnded;
  }

  /** Listens for what this hook wants to know, once for all hooks. */
  listenFor({ closedEarly, abandoned }: ResponseHook): void {
    if (abandoned !== undefined) this.#listenForDestroy();
    if (closedEarly !== undefined) this.#listenForClose();
  }

  #listenForClose(): void {
    if (this.#listensForClose) return;
    this.#listensForClose = true;
    onClose(this.#res, () => {
      if (!this.#hasEnded()) this.#hooks.closedEarly();
    });
  }

  #listenForDestroy(): void {
    const res = this.#res;
    const { destroy } = res;
    // Node's HTTP/2 responses have none.
    if (this.#listensForDestroy || typeof destroy !== 'function') return;
    this.#listensForDestroy = true;
    res.destroy = (...args: Parameters<typeof destroy>) => {
      if (!this.#hasEnded()) this.#hooks.abandoned();
      return destroy.apply(res, args);
    };
  }
}
