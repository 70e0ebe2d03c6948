import type { Row, Setup } from '../row.ts';
import { cacheRows } from './cache.ts';
import { combinedRows } from './combined.ts';
import { documentRows, OPERATIONS_AT_ONCE } from './documents.ts';
import { growths } from './growth.ts';
import { lockRows } from './lock.ts';
import { logRows } from './log.ts';
import { rateLimitRows } from './rate-limit.ts';
import { sessionRows } from './session.ts';

export { growths, OPERATIONS_AT_ONCE };

export const rows: Readonly<Record<string, Row>> = {
  ...sessionRows,
  ...rateLimitRows,
  ...cacheRows,
  ...combinedRows,
  ...lockRows,
  ...documentRows,
  ...logRows,
};

/** Whether a row counts operations on documents and not requests. */
export function countsOperations(name: string): boolean {
  return Object.hasOwn(documentRows, name);
}

export type ServerKind = 'bare' | 'kit' | 'peer';

interface NamedSetup {
  readonly name: string;
  readonly kind: ServerKind;
  readonly setup: Setup;
}

/** The row of a name: `hit`, or `bodies@1000` for a point of a growth. */
export function findRow(name: string): Row {
  const [base = '', point] = name.split('@');
  const row = point === undefined ? rows[base] : growths[base]?.rowAt(Number(point));
  if (row === undefined) throw new Error(`no row is named ${name}`);
  return row;
}

export function serversOf({ bare, kit, peers }: Row): readonly NamedSetup[] {
  const named = (kind: ServerKind, setups: Readonly<Record<string, Setup>>) =>
    Object.entries(setups).map(([name, setup]) => ({ name, kind, setup }));
  return [...named('bare', { bare }), ...named('kit', kit), ...named('peer', peers)];
}
