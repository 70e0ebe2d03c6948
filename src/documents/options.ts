import type { Duration } from '../base/duration.ts';
import { LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import { readSettings } from '../base/settings.ts';
import { valueSizeOption } from '../base/size-options.ts';
import { ttlOption } from '../base/timed-options.ts';

export interface DocumentsOptions {
  /** How long a document is kept after the last write; null keeps it until it is deleted. */
  readonly ttl: Duration | null;
  /** The most bytes of the JSON of a document; from 1 to 64 MiB, default 1 MiB. */
  readonly maxBytes?: number | undefined;
}

export interface DocumentsSettings {
  readonly ttl: number | null;
  readonly maxBytes: number;
}

const NAMES = {
  known: ['ttl', 'maxBytes'],
  elsewhere: {
    ...renamed('ttl', ...LIFETIME_NAMES.filter((name) => name !== 'ttl')),
    ...renamed('maxBytes', 'maxSize', 'limit'),
  },
};

export function readDocumentsOptions(options: DocumentsOptions): DocumentsSettings {
  return readSettings('kit.documents', options, NAMES, (reader) => ({
    ttl: () => ttlOption(reader),
    maxBytes: () => valueSizeOption(reader, 'maxBytes'),
  }));
}
