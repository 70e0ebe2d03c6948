import type { ChannelPattern } from '../engine/pub-sub.ts';

/** A channel or a pattern as a string, which can be the key of a map. */
export type Topic = `${'channel' | 'pattern'}:${string}`;

export function topicOf(channel: string | ChannelPattern): Topic {
  return typeof channel === 'string' ? `channel:${channel}` : `pattern:${channel.pattern}`;
}

export function isPattern(topic: Topic): boolean {
  return topic.startsWith('pattern:');
}

/** The channel or the pattern itself, as Redis receives it. */
export function nameOf(topic: Topic): string {
  return topic.slice(topic.indexOf(':') + 1);
}
