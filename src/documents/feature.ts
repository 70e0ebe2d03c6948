import type { Json } from '../base/json.ts';
import type { Keys } from '../base/keys.ts';
import { type Documents, type DocumentsDeps, KitDocuments } from './documents.ts';
import type { DocumentsOptions } from './options.ts';
import { Turns } from './turns.ts';

export interface DocumentsMethods {
  /** Returns a collection of JSON documents. Calls with equal names return the same collection. */
  documents<T = Json>(name: string, options: DocumentsOptions): Documents<T>;
}

export function documentsFeature(kit: Omit<DocumentsDeps, 'keys' | 'turns'>) {
  const turns = new Turns();
  return (keys: Keys): DocumentsMethods => ({
    documents: <T = Json>(name: string, options: DocumentsOptions) =>
      new KitDocuments<T>(name, options, { ...kit, keys, turns }),
  });
}
