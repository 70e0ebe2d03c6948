import { createClient } from 'redis';

export type PlainClient = Awaited<ReturnType<typeof connectPlainClient>>;

/** A node-redis client that never reconnects, for what the tests themselves want from a server. */
export async function connectPlainClient(url: string) {
  const client = createClient({
    url,
    socket: { reconnectStrategy: false, connectTimeout: 60_000 },
    // By default a command fails that a loaded machine has not written after five seconds.
    commandOptions: { timeout: 0 },
  });
  client.on('error', rejectedElsewhere);
  await client.connect();
  return client;
}

export async function withPlainClient<T>(url: string, use: (client: PlainClient) => Promise<T>): Promise<T> {
  const client = await connectPlainClient(url);
  try {
    return await use(client);
  } finally {
    if (client.isOpen) client.destroy();
  }
}

function rejectedElsewhere(): void {
  // A lost socket would end the process without a listener; connect() and every command under way reject with it.
}
