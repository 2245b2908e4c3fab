/**
 * Actions, workflows, agents, tools, models and sandboxes, and the runtime that they work in.
 * @module berth
 */

export { BaseImageUnavailableError } from './engine/docker/base-image.ts';
export {
  AgentBundleMissingError,
  ContainerStartError,
  EngineError,
  ImageNotFoundError,
  ImagePlatformError,
  LimitUnsupportedError,
  RuntimeNotFoundError,
  WorkspaceUnreachableError,
} from './engine/errors.ts';
export { EngineUnreachableError } from './engine/socket.ts';
export { BerthError } from './errors.ts';
export { StoreError, StoreVersionError } from './journal/errors.ts';
export {
  TooManyStreamsError,
  WireAuthenticationError,
  WireProtocolError,
  WireResumeError,
  WireStreamError,
  WireVersionError,
} from './protocol/errors.ts';
export type { DispatchOptions, DispatchRequest } from './runtime/agent/dispatch.ts';
export type { Receipt } from './runtime/agent/instance.ts';
export {
  type ActionContext,
  type ActionDefinition,
  type ActionOptions,
  defineAction,
  type FilesMode,
} from './runtime/define/action.ts';
export {
  type AgentConfig,
  type AgentContext,
  type AgentDefinition,
  type AgentProfile,
  type CompactionOptions,
  type DurabilityOptions,
  defineAgent,
  defineAgentProfile,
} from './runtime/define/agent.ts';
export { DefinitionError, type DefinitionIssue, ToolNameConflictError } from './runtime/define/errors.ts';
export { defineTool, type ToolContext, type ToolDefinition, type ToolOptions } from './runtime/define/tool.ts';
export { defineWorkflow, type WorkflowDefinition } from './runtime/define/workflow.ts';
export * from './runtime/errors.ts';
export {
  type EventBody,
  type EventOf,
  IMAGE_DATA_OMITTED,
  type RecordedError,
  type RuntimeEvent,
} from './runtime/events/event.ts';
export type { Log } from './runtime/events/log.ts';
export { pinoSink } from './runtime/events/pino.ts';
export type { AttemptContext, AttemptOptions, CompletedAttempt } from './runtime/harness/attempt.ts';
export type { CallHandle } from './runtime/harness/call-handle.ts';
export type { Checkpoint } from './runtime/harness/checkpoint.ts';
export type { Harness, ShellOptions } from './runtime/harness/harness.ts';
export type { McpServers } from './runtime/mcp/agent-servers.ts';
export { connectMcpServer, type McpServer } from './runtime/mcp/connect.ts';
export { McpConnectionError } from './runtime/mcp/errors.ts';
export type { McpServerOptions, RemoteMcpOptions, StdioMcpOptions } from './runtime/mcp/options.ts';
export {
  InvalidModelError,
  ModelNotConfiguredError,
  ModelNotFoundError,
  ModelRequestError,
  OperationFailedError,
  ProviderCredentialsError,
  ProviderRegistrationError,
  TurnLimitError,
} from './runtime/model/errors.ts';
export type {
  AssistantMessage,
  FinishReason,
  ImagePart,
  Message,
  Model,
  ModelEvent,
  ModelRequest,
  ModelTool,
  TextPart,
  ThinkingLevel,
  ThinkingPart,
  ToolCallPart,
  ToolMessage,
  Usage,
  UserMessage,
} from './runtime/model/model.ts';
export { type ProviderRegistration, registerProvider } from './runtime/model/providers.ts';
export { dispatch, invoke, observe } from './runtime/run/default-runtime.ts';
export type { InvokeOptions } from './runtime/run/invoke.ts';
export type { RunRecord, RunState } from './runtime/run/record.ts';
export type { RunHandle } from './runtime/run/run.ts';
export {
  createRuntime,
  type Observer,
  type Runtime,
} from './runtime/run/runtime.ts';
export type { RuntimeOptions } from './runtime/run/runtime-options.ts';
export { type DockerOptions, docker } from './runtime/sandbox/docker.ts';
export { type DriverOptions, sandboxFromDriver } from './runtime/sandbox/driver.ts';
export type {
  CheckpointRequest,
  DriverFork,
  DriverResult,
  EnvExecOptions,
  EnvStat,
  FilesCheckpoint,
  ForkRequest,
  GlobOptions,
  SandboxDriver,
  SandboxEnv,
  SandboxFactory,
  SandboxFork,
  SandboxOperations,
  SandboxProcess,
  SandboxRequest,
  WorkOutcome,
} from './runtime/sandbox/env.ts';
export type { Files } from './runtime/sandbox/files.ts';
export { type LocalOptions, local } from './runtime/sandbox/local.ts';
export { type VirtualOptions, virtual } from './runtime/sandbox/virtual.ts';
export type { JsonValue } from './runtime/schema/snapshot.ts';
export { AttachmentConflictError, AttachmentIntegrityError } from './runtime/session/errors.ts';
export type { HistoryMessage } from './runtime/session/history.ts';
export type { PromptOptions, PromptResult, Session, SkillOptions, TaskOptions } from './runtime/session/session.ts';
export { SkillNotRegisteredError } from './runtime/skills/errors.ts';
export { loadSkill } from './runtime/skills/load.ts';
export {
  type DefineSkillOptions,
  defineSkill,
  type Skill,
  type SkillFile,
  type SkillReference,
} from './runtime/skills/skill.ts';
export { AttachmentNotAvailableError, SubagentNotDeclaredError } from './runtime/subagents/errors.ts';
export * from './sandbox/errors.ts';
export type { GrepOptions, Match } from './sandbox/fs/file-system.ts';
export type { NetworkDecision } from './sandbox/network/gateway.ts';
export type { NetworkPolicy, Rule, RuleOptions } from './sandbox/network/policy.ts';
export type { Secret } from './sandbox/network/secrets.ts';
export type { ExecResult } from './sandbox/process/result.ts';
export { RecordingError, RecordingMismatchError } from './testing/errors.ts';
