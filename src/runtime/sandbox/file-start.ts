import type { SandboxEnv } from './env.ts';

/** The first bytes of a file, at most so many: what a sandbox holds may be of any size. */
export async function fileStart(env: SandboxEnv, path: string, length: number): Promise<Uint8Array> {
  if (!env.createReadStream) return (await env.readFileBuffer(path)).subarray(0, length);
  const chunks: Uint8Array[] = [];
  for await (const chunk of env.createReadStream(path, { end: length - 1 })) chunks.push(chunk);
  return Buffer.concat(chunks);
}
