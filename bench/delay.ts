/* A TCP proxy that delays the bytes in each direction: `delay.ts <port of the server> <milliseconds>`. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { answerParent } from './worker.ts';

const [port, delayMs] = process.argv.slice(2).map(Number);

function passOnLate(from: Socket, to: Socket): void {
  from.on('data', (bytes) => setTimeout(() => to.write(bytes), delayMs));
  from.on('error', () => to.destroy()).on('close', () => to.destroy());
}

const proxy = createServer({ noDelay: true }, (client) => {
  const server = connect({ port: port ?? 0, host: '127.0.0.1', noDelay: true });
  passOnLate(client, server);
  passOnLate(server, client);
}).listen(0, '127.0.0.1');
await once(proxy, 'listening');
answerParent((proxy.address() as AddressInfo).port, () => ({}));
