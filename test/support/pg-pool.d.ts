/** The part of pg-pool that the tests use. The package has no types. */
declare module 'pg-pool' {
  export default class Pool {
    constructor(options: { readonly max: number; readonly Client: unknown });
    query(text: string, done: (error: Error | undefined, result?: unknown) => void): void;
    connect(
      done: (error: Error | undefined, client: unknown, release: (error?: Error) => void) => void,
    ): void;
    end(): Promise<void>;
  }
}
