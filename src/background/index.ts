export type { Background, BackgroundJob, BackgroundOptions } from './background.ts';
export { type BackgroundMethods, backgroundFeature } from './feature.ts';
