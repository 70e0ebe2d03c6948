/** A server as it describes itself in INFO. */
export interface ServerVersion {
  readonly product: 'Redis' | 'Valkey';
  readonly version: string;
}

/** Flaws of the script engine, and per release branch the first version without them. */
interface FlawFixes {
  readonly flaws: readonly string[];
  readonly fixedIn: readonly string[];
  /** The first branch whose every version has the fix. */
  readonly fixedSince: string;
  /** Branches that never had the flaw. */
  readonly unaffected?: readonly string[];
}

const OCTOBER_2025 = ['CVE-2025-49844', 'CVE-2025-46817', 'CVE-2025-46818', 'CVE-2025-46819'];

/** From the security advisories of Redis and Valkey. */
const FIXES: Readonly<Record<ServerVersion['product'], readonly FlawFixes[]>> = {
  Redis: [
    { flaws: ['CVE-2024-31449'], fixedIn: ['6.2.16', '7.2.6', '7.4.1'], fixedSince: '8.0' },
    { flaws: ['CVE-2024-46981'], fixedIn: ['6.2.17', '7.2.7', '7.4.2'], fixedSince: '8.0' },
    { flaws: OCTOBER_2025, fixedIn: ['6.2.20', '7.2.11', '7.4.6', '8.0.4', '8.2.2'], fixedSince: '8.4' },
    {
      flaws: ['CVE-2026-23631'],
      fixedIn: ['7.2.14', '7.4.9', '8.2.6', '8.4.3', '8.6.3'],
      fixedSince: '8.8',
      unaffected: ['6.2'],
    },
  ],
  Valkey: [
    { flaws: ['CVE-2024-31449'], fixedIn: ['7.2.7', '8.0.1'], fixedSince: '8.1' },
    { flaws: ['CVE-2024-46981'], fixedIn: ['7.2.8', '8.0.2'], fixedSince: '8.1' },
    { flaws: OCTOBER_2025, fixedIn: ['7.2.11', '8.0.6', '8.1.4'], fixedSince: '9.0' },
    { flaws: ['CVE-2025-67733'], fixedIn: ['7.2.12', '8.0.7', '8.1.6', '9.0.3'], fixedSince: '9.1' },
    { flaws: ['CVE-2026-23631'], fixedIn: ['7.2.13', '8.0.8', '8.1.7', '9.0.4'], fixedSince: '9.1' },
  ],
};

const OLDEST: Readonly<Record<ServerVersion['product'], string>> = { Redis: '6.2', Valkey: '7.2' };

/** Warnings about a server that is older than supported, or whose scripts can break out of their sandbox. */
export function versionWarnings({ product, version }: ServerVersion): readonly string[] {
  if (compare(version, OLDEST[product]) < 0) {
    return [
      `${product} ${version} is older than ${OLDEST[product]}, the oldest version that redis-kit supports`,
    ];
  }
  const present = FIXES[product].filter((fix) => !isFixed(fix, version));
  if (present.length === 0) return [];
  const flaws = present.flatMap((fix) => fix.flaws).join(', ');
  const upgrade = present
    .map((fix) => remedy(fix, version))
    .sort(compare)
    .at(-1);
  return [
    `${product} ${version} has known flaws in its script engine (${flaws}); upgrade to ${upgrade} or later, ` +
      'unless your provider or distribution has added the fixes to this version',
  ];
}

function isFixed({ fixedIn, fixedSince, unaffected = [] }: FlawFixes, version: string): boolean {
  if (unaffected.includes(branchOf(version)) || compare(version, fixedSince) >= 0) return true;
  const fix = fixedIn.find((each) => branchOf(each) === branchOf(version));
  return fix !== undefined && compare(version, fix) >= 0;
}

/** The fixed version of the same branch, or of the next branch that has one. */
function remedy({ fixedIn, fixedSince }: FlawFixes, version: string): string {
  return fixedIn.find((each) => compare(each, version) > 0) ?? fixedSince;
}

function branchOf(version: string): string {
  return version.split('.').slice(0, 2).join('.');
}

/** Compares versions by their numbers. Release candidates count as their release. */
function compare(one: string, other: string): number {
  const parts = (version: string) => version.split('.').map((part) => Number.parseInt(part, 10) || 0);
  const [a, b] = [parts(one), parts(other)];
  for (let index = 0; index < 3; index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
