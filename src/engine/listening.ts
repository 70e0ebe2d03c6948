/** What listens to one channel. */
export interface ChannelListener {
  /** A message was published to the channel. */
  heard(message: string): void;
  /** Whether every message is heard from now on; until it is first told so, none may be. */
  changed(isUp: boolean): void;
}

/**
 * Hears what is published. Messages are lost while the listening connection is away, so each listener is told when
 * that is, and what it knows by hearsay holds no longer.
 */
export interface Listening {
  /** Listens until the function that it answers with is called. The connection is made for the first who asks. */
  subscribe(channel: string, listener: ChannelListener): () => void;
}
