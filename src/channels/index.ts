export { type ChannelMethods, channelFeature } from './feature.ts';
export type { DataListener } from './subscribe.ts';
