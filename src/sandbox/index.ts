/**
 * Sandboxes as a library, without any model.
 * @module berth/sandbox
 */

export { BaseImageUnavailableError } from '../engine/docker/base-image.ts';
export {
  AgentBundleMissingError,
  ContainerStartError,
  EngineError,
  ImageNotFoundError,
  ImagePlatformError,
  LimitUnsupportedError,
  RuntimeNotFoundError,
  WorkspaceUnreachableError,
} from '../engine/errors.ts';
export { EngineUnreachableError } from '../engine/socket.ts';
export { BerthError } from '../errors.ts';
export {
  TooManyStreamsError,
  WireAuthenticationError,
  WireProtocolError,
  WireResumeError,
  WireStreamError,
  WireVersionError,
} from '../protocol/errors.ts';
export type { Collected, CollectReport } from './collect.ts';
export * from './errors.ts';
export type { DirectoryEntry, FileStats, FileSystem, GrepOptions, Match } from './fs/file-system.ts';
export type { Change, Watch } from './fs/watch.ts';
export { SandboxHost, type SandboxHostOptions } from './host.ts';
export type { Exposed } from './network/expose.ts';
export type { NetworkDecision } from './network/gateway.ts';
export type { NetworkPolicy, Rule, RuleOptions } from './network/policy.ts';
export type { OpenPort, PortChange } from './network/ports.ts';
export type { Secret } from './network/secrets.ts';
export type {
  AttachOptions,
  AttachPtyOptions,
  Command,
  CreateOptions,
  ExecOptions,
  Input,
  PoolOptions,
  PtyOptions,
  PtySize,
  SessionOptions,
} from './options.ts';
export type { Process } from './process/exec.ts';
export type { KeptOutput, ProcessInfo } from './process/list.ts';
export type { ExecResult } from './process/result.ts';
export type { Pty, PtyExit } from './pty/pty.ts';
export type { Sandbox, SandboxInfo, SandboxStats } from './sandbox.ts';
export type { Session } from './session/session.ts';
