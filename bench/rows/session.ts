import { RedisStore } from 'connect-redis';
import type { RequestHandler } from 'express';
import session from 'express-session';
import type { Connections } from '../connections.ts';
import { appWith, bareHandler, type Row, type Setup } from '../row.ts';

declare module 'express-session' {
  interface SessionData {
    user: { id: string; name: string; roles: string[] };
    [counter: `counter${number}`]: number;
  }
}

const secret = 'only for this bench';
const PEER = 'express-session + connect-redis';

export async function kitSession({ connectKit }: Connections): Promise<RequestHandler> {
  return (await connectKit()).session({ secret });
}

export async function peerSession({ connectClient, prefix }: Connections) {
  const store = new RedisStore({ client: await connectClient(), prefix: `${prefix}:session:` });
  return session({ store, secret, resave: false, saveUninitialized: false });
}

const logIn: RequestHandler = (req, res) => {
  req.session.user = { id: 'u-123456', name: 'Ann Example', roles: ['editor', 'billing'] };
  res.json({});
};

/** Adds the route that gives a visitor a session. */
export function withLogin(sessions: RequestHandler, ...handlers: RequestHandler[]) {
  return appWith(...handlers).get('/login', sessions, logIn);
}

const readSession: RequestHandler = (req, _res, next) => {
  next(req.session.user?.name === 'Ann Example' ? undefined : new Error('the session is empty'));
};

let changes = 0;

const modifySession: RequestHandler = (req, _res, next) => {
  changes++;
  req.session[`counter${changes % 20}`] = changes;
  next();
};

const leaveSession: RequestHandler = (_req, _res, next) => next();

function sessionRow(title: string, visitors: number, handler: RequestHandler): Row {
  const serverWith =
    (makeSessions: (connections: Connections) => Promise<RequestHandler>): Setup =>
    async (connections) => {
      const sessions = await makeSessions(connections);
      return withLogin(sessions, sessions, handler);
    };
  return {
    title,
    bare: visitors === 0 ? bareHandler : () => appWith().get('/login', setCookie),
    kit: { 'kit.session': serverWith(kitSession) },
    peers: { [PEER]: serverWith(peerSession) },
    request: { visitors },
  };
}

/** The bare handler gets the same Cookie header. */
export const setCookie: RequestHandler = (_req, res) => {
  res.cookie('connect.sid', `s:${'x'.repeat(75)}`);
  res.json({});
};

export const sessionRows: Readonly<Record<string, Row>> = {
  'session-read': sessionRow('a session that is read', 200, readSession),
  'session-unread': sessionRow('a session that is not read', 200, leaveSession),
  'session-modified': sessionRow('one session, modified by 32 parallel requests', 1, modifySession),
  'session-none': sessionRow('no session cookie: the response guard alone, no command', 0, leaveSession),
};
