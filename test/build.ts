import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Brings the modules of dist/ up to date, without a look at types: tests run the command as users have it. */
export async function setup(): Promise<void> {
  const names = (await readdir(join(root, 'src'), { recursive: true })).filter((name) => name.endsWith('.ts'));
  const stale: string[] = [];
  for (const name of names) {
    const source = join(root, 'src', name);
    const built = join(root, 'dist', name.replace(/ts$/, 'js'));
    const [made, changed] = await Promise.all([changedAt(built), changedAt(source)]);
    if (made <= changed) stale.push(source);
  }
  if (stale.length === 0) return;
  await esbuild.build({
    entryPoints: stale,
    outbase: join(root, 'src'),
    outdir: join(root, 'dist'),
    format: 'esm',
    platform: 'node',
    target: 'es2022',
    // Each module stays a file of its own; `bundle` is for the names of those that it imports.
    bundle: true,
    keepNames: true,
    plugins: [{ name: 'imports', setup: ({ onResolve }) => onResolve({ filter: /./ }, toBuilt) }],
  });
}

function toBuilt({ kind, path }: esbuild.OnResolveArgs): esbuild.OnResolveResult | undefined {
  if (kind === 'entry-point') return undefined;
  return { path: path.startsWith('.') ? path.replace(/ts$/, 'js') : path, external: true };
}

function changedAt(path: string): Promise<number> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  );
}
