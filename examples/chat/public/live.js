const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 15_000;

/**
 * The event stream of the server. The browser reconnects after a lost connection, and sends the id of the last event, so
 * that the server sends what was missed. After a refusal the browser gives up: then this class opens a new stream, and
 * `onOpen` fetches what was missed.
 */
export class Live {
  #source;
  #retryMs = FIRST_RETRY_MS;
  #timer;
  #listeners;

  /** @param listeners `onEvent(event)`, `onOpen()`, and `onState('connecting' | 'live' | 'offline')` */
  constructor(listeners) {
    this.#listeners = listeners;
    addEventListener('online', () => this.#source && this.open());
    addEventListener('offline', () => this.#source && this.#listeners.onState('offline'));
  }

  /** Opens the stream, again if it is open: the server reads at its beginning which threads it has. */
  open() {
    this.close();
    this.#listeners.onState('connecting');
    const source = new EventSource('/api/events');
    this.#source = source;
    source.onopen = () => {
      this.#retryMs = FIRST_RETRY_MS;
      this.#listeners.onState('live');
      this.#listeners.onOpen();
    };
    source.onmessage = ({ data }) => this.#listeners.onEvent(JSON.parse(data));
    source.onerror = () => {
      this.#listeners.onState(navigator.onLine ? 'connecting' : 'offline');
      if (source.readyState === EventSource.CLOSED) this.#retry();
    };
  }

  close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = undefined;
  }

  #retry() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.open(), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
  }
}
