export { type SseMethods, sseFeature } from './feature.ts';
export type { SseMiddleware } from './middleware.ts';
export type { ChannelNames, ReplayEntry, ReplayLog, SseOptions } from './options.ts';
