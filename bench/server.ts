/* A process that serves HTTP for one server of a row: `server.ts <row> <server> <Redis URL> <key prefix>`. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connectionsTo } from './connections.ts';
import { findRow, serversOf } from './rows/index.ts';
import { answerParent } from './worker.ts';

const [row = '', server = '', url = '', prefix = ''] = process.argv.slice(2);

const setup = serversOf(findRow(row)).find(({ name }) => name === server)?.setup;
if (setup === undefined) throw new Error(`the row ${row} has no server ${server}`);
const http = createServer(await setup(connectionsTo(url, prefix))).listen(0, '127.0.0.1');
await once(http, 'listening');
answerParent((http.address() as AddressInfo).port, () => process.cpuUsage());
