import type { ChannelListener } from '../../engine/pub-sub.ts';
import type { WakeUps } from '../../waiting/wake-ups.ts';
import type { KnownVersions } from './versions.ts';

/** What the caches of a kit hear of each other: purges, and fills that others wait for. */
export function hearing(known: KnownVersions, wakeUps: WakeUps): ChannelListener {
  return {
    onMessage(message) {
      const [kind, first, second, scope, names] = parse(message);
      if (kind === 'filled') wakeUps.wake(String(first));
      else if (kind === 'purged' && typeof scope === 'string' && Array.isArray(names)) {
        known.purged(scope, Number(first), second === 1, names.map(String));
      }
    },
    onStatus(isUp) {
      known.listenerChanged(isUp);
      wakeUps.listenerChanged(isUp);
    },
  };
}

/** Empty for what is none of ours: anybody may publish there. */
function parse(message: string): readonly unknown[] {
  try {
    const told: unknown = JSON.parse(message);
    return Array.isArray(told) ? told : [];
  } catch {
    return [];
  }
}
