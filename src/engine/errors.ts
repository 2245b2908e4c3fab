import { BerthError } from '../errors.ts';

/** The engine refused or failed at something; `status` is its HTTP status, `reason` its own words. */
export class EngineError extends BerthError<{ operation: string; reason: string; engineStatus?: number }> {
  static {
    EngineError.prototype.name = 'EngineError';
  }
  readonly code = 'engine_error';
  constructor(meta: { operation: string; reason: string; engineStatus?: number }, options?: ErrorOptions) {
    super(`The container engine could not ${meta.operation}: ${meta.reason}`, meta, options);
  }
}

/** The engine does not have the image that was asked for. */
export class ImageNotFoundError extends BerthError<{ image: string }> {
  static {
    ImageNotFoundError.prototype.name = 'ImageNotFoundError';
  }
  readonly code = 'image_not_found';
  override readonly status = 404;
  constructor(meta: { image: string }, options?: ErrorOptions) {
    super(`The container engine has no image ${meta.image}. Get it with: docker pull ${meta.image}`, meta, options);
  }
}

/** The image is for another operating system or processor than the engine runs on. */
export class ImagePlatformError extends BerthError<{ image: string; platform: string; engine: string }> {
  static {
    ImagePlatformError.prototype.name = 'ImagePlatformError';
  }
  readonly code = 'image_platform';
  override readonly status = 400;
  constructor(meta: { image: string; platform: string; engine: string }) {
    super(
      `The image ${meta.image} is for ${meta.platform}, the container engine runs ${meta.engine}. ` +
        `Get it for that: docker pull --platform ${meta.engine} ${meta.image}`,
      meta,
    );
  }
}

/** The engine can't hold a sandbox to a limit that was asked for; `reason` is why. */
export class LimitUnsupportedError extends BerthError<{ limit: string; reason: string }> {
  static {
    LimitUnsupportedError.prototype.name = 'LimitUnsupportedError';
  }
  readonly code = 'limit_unsupported';
  override readonly status = 400;
  constructor(meta: { limit: string; reason: string }, options?: ErrorOptions) {
    super(
      `The container engine can't hold a sandbox to limits.${meta.limit}: ${meta.reason}. Leave it out to go without.`,
      meta,
      options,
    );
  }
}

/** The engine has no OCI runtime of that name; `known` are those that it has. */
export class RuntimeNotFoundError extends BerthError<{ runtime: string; known: readonly string[] }> {
  static {
    RuntimeNotFoundError.prototype.name = 'RuntimeNotFoundError';
  }
  readonly code = 'runtime_not_found';
  override readonly status = 400;
  constructor(meta: { runtime: string; known: readonly string[] }, options?: ErrorOptions) {
    super(
      `The container engine has no runtime ${meta.runtime}. It has: ${meta.known.join(', ')}. ` +
        'Add others to "runtimes" in its /etc/docker/daemon.json; Podman has the one that its service was started with.',
      meta,
      options,
    );
  }
}

/** The workspace is to be a directory of this machine, and the engine runs on another one. */
export class WorkspaceUnreachableError extends BerthError<{ path: string; url: string }> {
  static {
    WorkspaceUnreachableError.prototype.name = 'WorkspaceUnreachableError';
  }
  readonly code = 'workspace_unreachable';
  override readonly status = 400;
  constructor(meta: { path: string; url: string }) {
    super(
      `The container engine at ${meta.url} is another machine, which does not see ${meta.path} of this one. ` +
        "Use a volume, or copy the files: sandbox.fs.upload(path, '/workspace').",
      meta,
    );
  }
}

/** A container of that name is there already; `labels` are that container's. */
export class ContainerExistsError extends BerthError<{ name: string; labels: Readonly<Record<string, string>> }> {
  static {
    ContainerExistsError.prototype.name = 'ContainerExistsError';
  }
  readonly code = 'container_exists';
  override readonly status = 409;
  constructor(meta: { name: string; labels: Readonly<Record<string, string>> }, options?: ErrorOptions) {
    super(`The container engine already has a container ${meta.name}.`, meta, options);
  }
}

/** The container did not come up. `exitCode` and `log` (its last lines) are there when it ran at all. */
export class ContainerStartError extends BerthError<{ reason: string; exitCode?: number; log?: string }> {
  static {
    ContainerStartError.prototype.name = 'ContainerStartError';
  }
  readonly code = 'container_start';
  constructor(meta: { reason: string; exitCode?: number; log?: string }, options?: ErrorOptions) {
    const log = meta.log?.trim();
    super(`The sandbox could not be started: ${meta.reason}.${log ? ` It printed: ${log}` : ''}`, meta, options);
  }
}

/** The program that Berth runs inside of sandboxes has not been built. */
export class AgentBundleMissingError extends BerthError<{ path: string }> {
  static {
    AgentBundleMissingError.prototype.name = 'AgentBundleMissingError';
  }
  readonly code = 'agent_bundle_missing';
  constructor(meta: { path: string }, options?: ErrorOptions) {
    super(`${meta.path} is not there. In a checkout of Berth, run: npm run build`, meta, options);
  }
}
