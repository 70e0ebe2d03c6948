import type { ServerResponse } from 'node:http';
import { onClose } from './close-signal.ts';
import type { ResponseHook } from './response-hook.ts';
import type { ResponseHooks } from './response-hooks.ts';

/** Notifies the hooks of a response that closes or is destroyed before `end()` is called. */
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

  /** Installs the listeners that this hook needs, once for all hooks. */
  listenFor({ closedEarly, abandoned }: ResponseHook): void {
    if (abandoned !== undefined) this.#listenForDestroy();
    if (closedEarly !== undefined) this.#listenForClose();
  }

  #listenForClose(): void {
    if (this.#listensForClose) return;
    this.#listensForClose = true;
    onClose(this.#res, () => {
      if (!this.#hasEnded()) this.#hooks.notify('closedEarly');
    });
  }

  #listenForDestroy(): void {
    const res = this.#res;
    const { destroy } = res;
    // HTTP/2 responses of Node have no `destroy`.
    if (this.#listensForDestroy || typeof destroy !== 'function') return;
    this.#listensForDestroy = true;
    res.destroy = (...args: Parameters<typeof destroy>) => {
      if (!this.#hasEnded()) this.#hooks.notify('abandoned');
      return destroy.apply(res, args);
    };
  }
}
