/**
 * Says that the caller of a command has got its error, so that no client sends the command any more: a client of
 * node-redis keeps commands that it has not written yet, also for its next socket, and cluster clients send a command
 * again to which a node replied MOVED. Has the members of an AbortSignal that node-redis uses; a real AbortSignal for
 * each command costs a third of the throughput.
 */
export class CommandSignal {
  aborted = false;
  #listener: (() => void) | undefined;

  /** node-redis listens until it writes the command, and again if it sends the command to another node. */
  addEventListener(_type: 'abort', listener: () => void): void {
    this.#listener = listener;
  }

  removeEventListener(): void {
    this.#listener = undefined;
  }

  abort(): void {
    this.aborted = true;
    this.#listener?.();
  }
}
