export type { Documents } from './documents.ts';
export { type DocumentsMethods, documentsFeature } from './feature.ts';
export type { DocumentsOptions } from './options.ts';
