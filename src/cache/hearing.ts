import type { ChannelListener } from '../engine/listening.ts';
import type { WakeUps } from '../engine/wake-ups.ts';
import type { Versions } from './versions.ts';

/** What the caches of a kit hear of each other: purges, and fills that others wait for. */
export function hearing(versions: Versions, wakeUps: WakeUps, deafened: () => void): ChannelListener {
  return {
    heard(message) {
      const [kind, ...told] = parse(message);
      if (kind === 'filled') wakeUps.call(String(told[0]));
      else if (kind === 'purged' && Array.isArray(told[2])) {
        versions.purged(Number(told[0]), told[1] === 1, told[2].map(String));
      }
    },
    changed(isUp) {
      versions.listenerChanged(isUp);
      wakeUps.listenerChanged(isUp);
      if (!isUp) deafened();
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
