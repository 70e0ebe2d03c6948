import type { ChannelListener } from '../../engine/pub-sub.ts';
import type { WakeUps } from '../../waiting/wake-ups.ts';
import type { KnownVersions } from './versions.ts';

/**
 * Receives the messages of the cache channel. `["purged", sequence, soft 0 or 1, scope, names]` is a purge by another process,
 * `["filled", fill key]` the end of a fill for which this process may wait.
 */
export function cacheChannelListener(known: KnownVersions, wakeUps: WakeUps): ChannelListener {
  return {
    onMessage(message) {
      const [kind, first, second, scope, names] = parse(message);
      if (kind === 'filled') wakeUps.wake(String(first));
      else if (kind === 'purged' && typeof scope === 'string' && Array.isArray(names)) {
        known.recordPurge(scope, Number(first), second === 1, names.map(String));
      }
    },
    onStatus(isUp) {
      known.listenerChanged(isUp);
      wakeUps.listenerChanged(isUp);
    },
  };
}

/** The fields of a message; empty for a message in another format, since any client can publish on the channel. */
function parse(message: string): readonly unknown[] {
  try {
    const fields: unknown = JSON.parse(message);
    return Array.isArray(fields) ? fields : [];
  } catch {
    return [];
  }
}
