import type { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
import { timerOption } from '../base/timed-options.ts';
import { type PolicySettings, refillDuring } from './policy.ts';
import type { ReserveSettings } from './reservations.ts';

/** Reads the option `reserve`. */
export function reserveOption(
  reader: OptionReader,
  policies: () => readonly { readonly policy: PolicySettings; readonly key: unknown }[],
): ReserveSettings | undefined {
  if (!reader.has('reserve')) return undefined;
  checkOtherOptions(reader);
  const names = { known: ['units', 'hold'] };
  const settings = readSettings('kit.rateLimit({ reserve })', reader.value('reserve'), names, (own) => ({
    units: () => own.requiredInteger('units', { min: 1, max: 1_000_000_000 }),
    holdMs: () => timerOption(own, 'hold', '1s'),
  }));
  for (const { policy, key } of policies()) {
    if (key !== undefined) {
      throw reader.error(
        'reserve',
        'a batch belongs to one identity, so all policies must count the same; leave the `key` of the policies out',
      );
    }
    const { limit, name } = policy;
    if (typeof limit !== 'number') continue;
    const refill = refillDuring(policy, settings.holdMs);
    if (settings.units <= limit - refill) continue;
    throw reader.error(
      'reserve',
      refill === 0
        ? `\`units\` must not exceed the limit of '${name}', ${limit}`
        : `the capacity of '${name}' less the ${refill} tokens that come back during \`hold\` must be at least \`units\`; give a shorter \`hold\` or fewer \`units\``,
    );
  }
  return settings;
}

function checkOtherOptions(reader: OptionReader): void {
  if (reader.value('onDenied') === 'count') {
    throw reader.error(
      'reserve',
      "with `onDenied: 'count'` every refused request must reach Redis; leave one of the two out",
    );
  }
  for (const name of ['wait', 'block']) {
    if (!reader.has(name)) continue;
    throw reader.error('reserve', `\`${name}\` needs a command per request; leave one of the two out`);
  }
}
