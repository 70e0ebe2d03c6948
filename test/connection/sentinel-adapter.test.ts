import { expect, it } from 'vitest';
import { type MasterEvents, SentinelAdapter } from '../../src/connection/sentinel-adapter.ts';

it('a master whose connection is lost has not recovered until the kit is connected to a master', async () => {
  let events: MasterEvents | undefined;
  const source = {
    client: undefined,
    open: (all: MasterEvents) => {
      events = all;
    },
    reconnect: () => undefined,
    close: () => undefined,
  };
  const adapter = new SentinelAdapter(source, 'mymaster', () => undefined);
  adapter.open();
  const master = new SentinelAdapter(source, 'the connection to the master', () => undefined);
  events?.connected(master, '10.0.0.1:6379');
  events?.left();
  await expect(adapter.ping('10.0.0.1:6379')).rejects.toThrow('the master cannot be reached');
  events?.connected(master, '10.0.0.2:6379');
  expect([adapter.ping('10.0.0.1:6379'), adapter.ping('mymaster')]).toEqual([undefined, undefined]);
});
