import { ensureBaseImage } from '../../../engine/docker/base-image.ts';
import { openEngine } from '../../engine.ts';
import { Interruption } from '../../interruption.ts';
import { printJson, sayProgress } from '../../output.ts';

export async function build({ json }: { json?: boolean }): Promise<number> {
  const interruption = new Interruption({ onFirst: () => sayProgress('stopping: removes what was made so far') });
  try {
    const { docker } = await openEngine();
    const image = await ensureBaseImage(docker, { onProgress: sayProgress, signal: interruption.signal });
    if (json) printJson({ image });
    else process.stdout.write(`${image}\n`);
    return 0;
  } catch (error) {
    if (interruption.code !== undefined) return interruption.code;
    throw error;
  }
}
