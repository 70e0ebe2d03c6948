import { createClient } from 'redis';

export type PlainClient = Awaited<ReturnType<typeof connectPlainClient>>;

/** Its duplicates share the class that node-redis builds for each client that it creates, which is expensive. */
const template = createClient();

/** A node-redis client that never reconnects, for the tests' own commands. */
export async function connectPlainClient(url: string) {
  const client = template.duplicate({
    url,
    socket: { reconnectStrategy: false, connectTimeout: 60_000 },
    // By default, a command that was not written within five seconds fails.
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
  // Without a listener a lost socket would end the process; connect() and running commands reject.
}
