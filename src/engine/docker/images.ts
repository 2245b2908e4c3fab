import type Docker from 'dockerode';
import { ImageNotFoundError, ImagePlatformError } from '../errors.ts';
import { statusOf } from './failure.ts';

/** What of an image decides how a sandbox is made from it. */
export interface ImageDetails {
  id: string;
  env: (readonly [name: string, value: string])[];
  /** Empty: root. */
  user: string;
}

/**
 * @param arch - the engine's
 * @throws {ImageNotFoundError}
 * @throws {ImagePlatformError} it would not start there
 */
export async function inspectImage(docker: Docker, image: string, arch: string): Promise<ImageDetails> {
  const found = await docker
    .getImage(image)
    .inspect()
    .catch((error: unknown) => {
      // 400: not a name that an image can have.
      if (statusOf(error) === 404 || statusOf(error) === 400) throw new ImageNotFoundError({ image }, { cause: error });
      throw error;
    });
  // An image that was imported from a tar may not say what it is for.
  if (found.Os && found.Architecture && (found.Os !== 'linux' || found.Architecture !== arch)) {
    throw new ImagePlatformError({ image, platform: `${found.Os}/${found.Architecture}`, engine: `linux/${arch}` });
  }
  // null or missing where an image has none, whatever the types say
  const env: string[] = found.Config?.Env ?? [];
  return {
    id: found.Id,
    user: found.Config?.User ?? '',
    env: env.map((variable) => {
      const at = variable.indexOf('=');
      return at === -1 ? ([variable, ''] as const) : ([variable.slice(0, at), variable.slice(at + 1)] as const);
    }),
  };
}
