const KiB = 1024;
const MiB = 1024 * KiB;

/** Bytes that a frame has before its payload. */
export const frameHeaderBytes = 9;

/**
 * The largest of everything that crosses the wire. Both sides hold to them when they send and refuse what is larger:
 * what comes from a sandbox is hostile, and what comes from an old host may be wrong. Bytes unless said otherwise.
 */
export const limits = {
  /** A message, as JSON in UTF-8. */
  message: 1 * MiB,
  /** A message before the other side has proved who it is. */
  handshakeMessage: 4 * KiB,
  /** The payload of a data frame. */
  data: 256 * KiB,
  /** The payload of a WebSocket frame. */
  webSocketFrame: 1 * MiB + frameHeaderBytes,
  /** Streams that are open at once on one connection (a number). */
  streams: 4_096,
  /**
   * Requests without a stream that are under way at once on one connection (a number). The host keeps back what is more: each
   * takes several KiB of the sandbox-agent until it is answered.
   */
  requests: 1_024,
  /** Bytes of one direction of one stream that may be under way: what the receiver must be ready to hold. */
  window: 2 * MiB,
  /** What one side keeps of what it sent, until the other side says that it has it; then it waits. */
  unacknowledged: 16 * MiB,
  /** What the sandbox-agent has to send beyond that: its host asks, and takes no answers. */
  unsent: 32 * MiB,
  /** PATH_MAX of Linux. */
  path: 4_096,
  /** MAX_ARG_STRLEN of Linux, without the NUL: one argument, or one `NAME=value` of the environment. */
  argument: 128 * KiB - 1,
  /** Arguments of one command (a number); `message` bounds what they hold together. */
  arguments: 16_384,
  /** Variables of one environment (a number). */
  environment: 4_096,
  /** An id or an idempotency key. */
  key: 256,
  name: 256,
  /** The text of an error. */
  errorText: 4 * KiB,
  /** A line of a record stream: a directory entry, a match of a search. */
  record: 64 * KiB,
  /** Matches that one search sends (a number). */
  found: 100_000,
  /** Entries of a directory that are held at once (a number). */
  listed: 100_000,
  /** Directories that one watch sees (a number): each takes some memory of the kernel and of the sandbox-agent. */
  watchedDirectories: 32_768,
  /** Columns, or rows, of a terminal (a number): what the kernel has room for. */
  terminal: 65_535,
  /** Processes that one list names (a number). */
  listedProcesses: 16_384,
  /** Arguments that a list has of each (a number), and the length of each of them (UTF-16 units). */
  listedArguments: 16,
  listedArgument: 256,
  /** Patterns of names that the network of a sandbox is opened for, and ports of each (numbers). */
  networkNames: 1_024,
  networkPorts: 64,
  /** Ports of servers in a sandbox that are told of (a number), the lowest ones. */
  listeningPorts: 1_024,
} as const;
