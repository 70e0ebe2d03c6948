/** An answer of the server that is no success, or no answer at all (status 0). */
export class ApiError extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

async function request(method, path, { body, headers } = {}) {
  let response;
  try {
    response = await fetch(`/api${path}`, {
      method,
      headers: { ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, 'The server cannot be reached.');
  }
  const text = await response.text();
  const content = text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : undefined;
  if (response.ok) return content;
  const retryAfter = Number(response.headers.get('Retry-After') ?? 0);
  throw new ApiError(response.status, content?.title ?? `The server answers ${response.status}.`, retryAfter);
}

const threadPath = (id) => `/threads/${encodeURIComponent(id)}`;

export const api = {
  user: async () => (await request('GET', '/session')).user,
  signIn: (name) => request('POST', '/session', { body: { name } }),
  signOut: () => request('DELETE', '/session'),
  threads: () => request('GET', '/threads'),
  createThread: (title) => request('POST', '/threads', { body: { title } }),
  join: (id) => request('PUT', `/invitations/${encodeURIComponent(id)}`),
  thread: (id) => request('GET', threadPath(id)),
  leave: (id) => request('DELETE', `${threadPath(id)}/subscription`),
  messagesAfter: (id, cursor) => request('GET', `${threadPath(id)}/messages?after=${cursor}`),
  markRead: (id) => request('PUT', `${threadPath(id)}/read`),
  /** With the same key, a message is stored once, however often it is sent. */
  post: (id, text, key) =>
    request('POST', `${threadPath(id)}/messages`, {
      body: { text },
      headers: { 'Idempotency-Key': `"${key}"` },
    }),
  ask: (id) => request('POST', `${threadPath(id)}/answers`),
  startReport: (id) => request('POST', `${threadPath(id)}/reports`),
};
