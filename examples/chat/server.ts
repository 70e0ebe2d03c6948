import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createRedisKit } from 'redis-kit';
import { createChat } from './app.ts';
import { fakeModel } from './model.ts';

const kit = createRedisKit({ url: process.env.REDIS_URL || 'memory:', prefix: 'chat' });
const model = fakeModel(Number(process.env.CHAT_MODEL_MS || 1_500));
const chat = createChat(kit, model, process.env.SESSION_SECRET);

const server = createServer(chat.app).listen(Number(process.env.PORT || 3000));
await once(server, 'listening');
console.log(`The chat runs on http://localhost:${(server.address() as AddressInfo).port}`);
chat.resume().catch((error) => console.error('Unfinished reports wait for the next start:', error.message));

async function shutDown(): Promise<void> {
  server.close();
  chat.endStreams();
  // A connection becomes idle after its response, and would stay open for the keep-alive timeout.
  const idle = setInterval(() => server.closeIdleConnections(), 100);
  const limit = setTimeout(() => server.closeAllConnections(), 10_000);
  await once(server, 'close');
  clearInterval(idle);
  clearTimeout(limit);
  await kit.close();
}
process.once('SIGTERM', shutDown);
process.once('SIGINT', shutDown);
