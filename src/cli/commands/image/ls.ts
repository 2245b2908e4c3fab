import { baseImageTag } from '../../../engine/docker/base-image.ts';
import { engineFailure } from '../../../engine/docker/failure.ts';
import { openEngine } from '../../engine.ts';
import { printJson } from '../../output.ts';
import { tableLines } from '../../print/table.ts';

/** Base images of this version of Berth and of earlier ones, the newest first. */
export async function ls({ json }: { json?: boolean }): Promise<number> {
  const { docker, url } = await openEngine();
  const current = await baseImageTag();
  const found = await docker
    .listImages({ filters: JSON.stringify({ reference: ['berth-base'] }) })
    .catch(async (error: unknown) => {
      throw await engineFailure(error, 'list images', url);
    });
  const images = found
    .sort((a, b) => b.Created - a.Created)
    .flatMap(({ RepoTags, Size, Created }) =>
      // Podman puts before a name where it would have got it from.
      (RepoTags ?? [])
        .map((name) => name.replace(/^(docker\.io\/library|localhost)\//, ''))
        .map((name) => ({
          name,
          current: name === current,
          size: Size,
          createdAt: new Date(Created * 1000).toISOString(),
        })),
    );
  if (json) {
    printJson(images);
    return 0;
  }
  const rows = images.map(({ name, current: isCurrent, size, createdAt }) => [
    name,
    `${Math.round(size / 1024 / 1024)} MiB`,
    createdAt.slice(0, 19).replace('T', ' '),
    isCurrent ? 'in use' : '',
  ]);
  process.stdout.write(`${tableLines([['IMAGE', 'SIZE', 'CREATED (UTC)', ''], ...rows]).join('\n')}\n`);
  return 0;
}
