export function bundle(directory: string, modules?: readonly string[]): Promise<void>;
