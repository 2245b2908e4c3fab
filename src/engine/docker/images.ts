import type Docker from 'dockerode';
import { ImageNotFoundError, ImagePlatformError } from '../errors.ts';
import { statusOf } from './failure.ts';

/** What of an image decides how a sandbox is made from it. */
export interface ImageDetails {
  id: string;
  env: (readonly [name: string, value: string])[];
  /** Empty: root. */
  user: string;
  /** What else the engine gives every container of it. */
  inherited: { env: string[]; labels: string[] };
}

/**
 * On the image of a fork, whose environment and labels are those of the container that it was made from: user and
 * environment as they were before, in base64.
 */
export const originalLabel = 'berth.original';

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
  const { Env, Labels } = configOf(found);
  return {
    id: found.Id,
    ...originalOf(found),
    inherited: { env: Env.map((variable) => pair(variable)[0]), labels: Object.keys(Labels) },
  };
}

/** User and environment that an image was made with, or, of the image of a fork, those that the first one in the row was. */
export function originalOf(image: Docker.ImageInspectInfo): Pick<ImageDetails, 'user' | 'env'> {
  const { Env, Labels, User } = configOf(image);
  const original = Labels[originalLabel];
  if (original !== undefined) return JSON.parse(Buffer.from(original, 'base64url').toString()); // our own text
  return { user: User, env: Env.map(pair) };
}

/** null or missing where an image has none, whatever the types say */
function configOf({ Config }: Docker.ImageInspectInfo) {
  return { Env: Config?.Env ?? [], Labels: Config?.Labels ?? {}, User: Config?.User ?? '' };
}

function pair(variable: string): readonly [name: string, value: string] {
  const at = variable.indexOf('=');
  return at === -1 ? [variable, ''] : [variable.slice(0, at), variable.slice(at + 1)];
}
