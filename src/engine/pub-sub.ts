/** All channels that match a pattern with the syntax of PSUBSCRIBE. */
export interface ChannelPattern {
  readonly pattern: string;
}

/** Receives the messages of one channel, or of all channels that match one pattern. */
export interface ChannelListener {
  onMessage(message: string, channel: string): void;
  /** `true`: all messages published from now on arrive. `false`, assumed before the first call: some may be lost. */
  onStatus(isUp: boolean): void;
  /** Redis denied the subscription. The subscriber tries again later. */
  onRefused?(error: Error): void;
}

/**
 * Redis Pub/Sub. Redis does not keep messages for a subscriber that is disconnected. A listener is notified when
 * messages may have been lost, and must then discard the state that it has from earlier messages.
 */
export interface PubSub {
  /** Returns an unsubscribe function. The first subscription opens the subscriber's connection. */
  subscribe(channel: string | ChannelPattern, listener: ChannelListener): () => void;
}
