export type { KitCheck } from './check.ts';
export { type HealthMethods, healthFeature } from './feature.ts';
export type { HealthOptions } from './options.ts';
