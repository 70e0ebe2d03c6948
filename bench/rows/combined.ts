import type { Connections } from '../connections.ts';
import { appWith, type Row, type Setup } from '../row.ts';
import { peerCache } from './cache.ts';
import { peerLimit, slidingWindow } from './rate-limit.ts';
import { kitSession, peerSession, setCookie, withLogin } from './session.ts';

const PEER = 'express-rate-limit + express-session + apicache';
const LIMIT = 100_000_000;

/** The same connections for several middleware of one app. */
async function share(connections: Connections): Promise<Connections> {
  const [kit, client] = await Promise.all([connections.connectKit(), connections.connectClient()]);
  return { ...connections, connectKit: async () => kit, connectClient: async () => client };
}

const inTurn: Setup = async (connections) => {
  const shared = await share(connections);
  const [kit, session] = [await shared.connectKit(), await kitSession(shared)];
  return withLogin(session, kit.rateLimit(slidingWindow(LIMIT)), session, kit.cache({ ttl: '1h' }));
};

const inPipeline: Setup = async (connections) => {
  const shared = await share(connections);
  const [kit, session] = [await shared.connectKit(), await kitSession(shared)];
  const three = kit.pipeline(kit.rateLimit(slidingWindow(LIMIT)), session, kit.cache({ ttl: '1h' }));
  return withLogin(session, three);
};

const peersInTurn: Setup = async (connections) => {
  const shared = await share(connections);
  const session = await peerSession(shared);
  return withLogin(session, await peerLimit(shared, { limit: LIMIT }), session, peerCache());
};

const oneCommand: Setup = async ({ connectClient, prefix }) => {
  const redis = await connectClient();
  const app = appWith(async (_req, _res, next) => {
    await redis.get(prefix);
    next();
  });
  return app.get('/login', setCookie);
};

const three: Row = {
  title: 'a limit, a session and a cached response',
  bare: () => appWith().get('/login', setCookie),
  kit: { 'three app.use': inTurn, 'kit.pipeline': inPipeline },
  peers: { [PEER]: peersInTurn },
  request: { visitors: 200 },
};

const delayed: Row = {
  ...three,
  title: 'the same with 2 ms each way to Redis; bare is one command',
  bare: oneCommand,
  request: { visitors: 200, connections: 8, delayMs: 2 },
};

export const combinedRows: Readonly<Record<string, Row>> = { three, delayed };
