import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { treeChange } from '../../src/protocol/checkpoint.ts';
import { WireProtocolError } from '../../src/protocol/errors.ts';
import { fsChange, fsEntry, fsMatch, fsPath } from '../../src/protocol/fs.ts';
import { protocolVersion, signedText } from '../../src/protocol/handshake.ts';
import { limits } from '../../src/protocol/limits.ts';
import {
  encodeMessage,
  parseAnswer,
  parseAuthenticate,
  parseHello,
  parseRequest,
  parser,
  parseWelcome,
} from '../../src/protocol/messages.ts';
import { listedProcess } from '../../src/protocol/process.ts';

type Message = Record<string, unknown>;
type Parse = (bytes: Uint8Array) => unknown;

const requestId = 7;
const path = '/workspace/ü 😀';
const stats = {
  kind: 'file',
  size: 5,
  mode: 0o644,
  uid: 0,
  gid: 1000,
  accessedMs: 1.5,
  modifiedMs: -1,
  changedMs: 0,
};
const end = {
  exitCode: 0,
  signal: null,
  timedOut: false,
  oomKilled: false,
  stdoutBytes: 0,
  stderrBytes: 5,
  durationMs: 1.25,
};
const env = [
  ['constructor', 'a=b'],
  ['__proto__', ''],
];

/** One of each message with every field that it can have, and the names of those that may be left out. */
const messages: [parse: Parse, message: Message, optional?: string[]][] = [
  [parseRequest, { type: 'ping', requestId }],
  [parseRequest, { type: 'shutdown', requestId }],
  [parseRequest, { type: 'session.open', requestId, sessionId: 's', env, cwd: path, user: 'a:b' }, ['cwd', 'user']],
  [parseRequest, { type: 'session.close', requestId, sessionId: 's' }],
  [
    parseRequest,
    {
      type: 'process.start',
      requestId,
      sessionId: 'root',
      key: 'k',
      argv: ['a', ''],
      cwd: path,
      env,
      user: '1:2',
      timeoutMs: 5,
      detached: true,
      stdin: 1,
      stdout: 3,
      stderr: 5,
      backpressure: true,
    },
    ['key', 'cwd', 'user', 'timeoutMs', 'stdin', 'stdout', 'stderr'],
  ],
  [
    parseRequest,
    {
      type: 'process.attach',
      requestId,
      processId: 'p',
      stdout: { stream: 1, from: 0 },
      stderr: { stream: 3, from: 9 },
      rest: false,
      backpressure: false,
    },
    ['stdout', 'stderr'],
  ],
  [parseRequest, { type: 'process.kill', requestId, processId: 'p', signal: 'SIGTERM', graceMs: 0 }, ['graceMs']],
  [parseRequest, { type: 'process.list', requestId, stream: 1 }],
  [parseRequest, { type: 'memory.watch', requestId, after: 2, waitMs: 5 }],
  [parseRequest, { type: 'network.ports', requestId, known: [80, 8080], waitMs: 5 }, ['known']],
  [
    parseRequest,
    {
      type: 'pty.open',
      requestId,
      sessionId: 's',
      argv: ['a', ''],
      cwd: path,
      env,
      user: '1:2',
      size: { columns: 1, rows: 65_535 },
      input: 1,
      output: 3,
    },
    ['argv', 'cwd', 'user'],
  ],
  [parseRequest, { type: 'pty.attach', requestId, processId: 'p', input: 1, output: { stream: 3, from: 9 } }],
  [parseRequest, { type: 'pty.resize', requestId, processId: 'p', size: { columns: 65_535, rows: 1 } }],
  [parseRequest, { type: 'fs.stat', requestId, path, follow: true }],
  [parseRequest, { type: 'cancel', requestId, target: 2 }],
  [parseRequest, { type: 'fs.watch', requestId, path, recursive: true, stream: 1 }],
  [parseAnswer, { type: 'fs.watching', requestId }],
  [parseRequest, { type: 'fs.truncate', requestId, path, size: 0 }],
  [parseRequest, { type: 'fs.read', requestId, path, start: 0, end: 5, stream: 1 }, ['end']],
  [parseRequest, { type: 'fs.write', requestId, path, how: 'replace', mode: 0o7777, stream: 1 }, ['mode']],
  [parseRequest, { type: 'fs.readdir', requestId, path, withStats: false, stream: 1 }],
  [parseRequest, { type: 'fs.mkdir', requestId, path, recursive: true, mode: 0 }, ['mode']],
  [parseRequest, { type: 'fs.rm', requestId, path, recursive: true, force: false }],
  [parseRequest, { type: 'fs.rename', requestId, from: path, to: path }],
  [parseRequest, { type: 'fs.copy', requestId, from: path, to: path }],
  [parseRequest, { type: 'fs.symlink', requestId, target: '../x', path }],
  [parseRequest, { type: 'fs.readlink', requestId, path }],
  [parseRequest, { type: 'fs.realpath', requestId, path }],
  [parseRequest, { type: 'fs.chmod', requestId, path, mode: 0 }],
  [parseRequest, { type: 'fs.glob', requestId, path, pattern: '*', limit: 1, stream: 1 }],
  [
    parseRequest,
    { type: 'fs.grep', requestId, path, pattern: 'x', literal: true, include: '*', limit: 1, stream: 1 },
    ['include'],
  ],
  [parseRequest, { type: 'fs.unpack', requestId, path, stream: 1 }],
  [parseRequest, { type: 'fs.pack', requestId, path, stream: 0xffff_ffff }],
  [parseRequest, { type: 'fs.checkpoint', requestId, id: 'a.B-c_1', path, copy: true }],
  [parseRequest, { type: 'fs.rollback', requestId, id: 'c' }],
  [parseRequest, { type: 'fs.changes', requestId, id: 'c', stream: 1 }],
  [parseRequest, { type: 'fs.land', requestId, id: 'c', stream: 1 }],
  [parseRequest, { type: 'fs.dropCheckpoint', requestId, id: 'c' }],
  [parseAnswer, { type: 'fs.landed', requestId, conflicts: 1, paths: ['a/b'] }],
  [parser(treeChange), { kind: 'removed', path: 'a/b' }],
  [parser(treeChange), { kind: 'file', path: 'a', mode: 0o644, uid: 1, gid: 0, modifiedMs: 1.5, size: 0 }],
  [parser(treeChange), { kind: 'directory', path: 'a', mode: 0o7777, uid: 1, gid: 0, modifiedMs: -1.5 }],
  [parser(treeChange), { kind: 'symlink', path: 'a', mode: 0o777, uid: 1, gid: 0, modifiedMs: 0, target: '/../x' }],
  [parser(treeChange), { kind: 'end' }],
  [parseAnswer, { type: 'ok', requestId }],
  [parseAnswer, { type: 'error', requestId, code: 'ENOENT', message: '' }],
  [parseAnswer, { type: 'process.started', requestId, processId: 'p', pid: 0 }],
  [parseAnswer, { type: 'process.exited', requestId, end }],
  [parseAnswer, { type: 'memory.kills', requestId, kills: 3 }],
  [parseAnswer, { type: 'network.listening', requestId, ports: [{ port: 80, address: '::' }] }],
  [parseAnswer, { type: 'fs.stat', requestId, stats }],
  [parseAnswer, { type: 'fs.target', requestId, target: '' }],
  [parseAnswer, { type: 'fs.found', requestId, total: 5, truncated: false }],
  [parseAuthenticate, { type: 'authenticate', protocol: protocolVersion, signature: 'ab'.repeat(64) }],
  [
    parseWelcome,
    {
      type: 'welcome',
      connection: 'cd'.repeat(16),
      boot: 'b',
      user: 'root',
      uid: 0,
      gid: 0,
      home: '/root',
      cwd: '/workspace',
    },
  ],
  [parseWelcome, { type: 'refused' }],
  [
    parser(listedProcess),
    {
      processId: 'p',
      sessionId: 's',
      argv: ['a'],
      pid: 2,
      terminal: true,
      startedAt: 0,
      state: 'ended',
      end,
      pids: [2, 3],
      stdout: { bytes: 9, gaps: [[2, 5]] },
      stderr: { bytes: 0, gaps: [] },
    },
    ['end'],
  ],
  [parser(fsEntry), { name: 'a', stats }, ['stats']],
  [parser(fsPath), { path: 'a/b' }],
  [parser(fsMatch), { path: 'a', line: 1, text: '' }],
];

const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));
const named = messages.map(([parse, message, optional = []]) => ({
  name: String(message.type ?? Object.keys(message)),
  parse,
  message,
  optional,
}));

describe.for(named)('$name', ({ parse, message, optional }) => {
  test('comes through as it is', () => {
    expect(parse(encodeMessage(message as never))).toEqual(message);
    for (const key of optional) {
      const { [key]: _, ...rest } = message;
      expect(parse(bytes(rest))).toEqual(rest);
    }
  });

  test('is refused with an unknown field, without one that it needs, or with a wrong one', () => {
    expect(() => parse(bytes({ ...message, other: 1 }))).toThrow(WireProtocolError);
    expect(() => parse(Buffer.from(JSON.stringify(message).replace('{', '{"__proto__":{},')))).toThrow(
      WireProtocolError,
    );
    for (const key of Object.keys(message)) {
      const { [key]: value, ...rest } = message;
      if (!optional.includes(key)) expect(() => parse(bytes(rest)), `without ${key}`).toThrow(WireProtocolError);
      const wrong = [null, [value], {}, typeof value === 'string' ? 1 : 'x', typeof value === 'boolean' ? 0 : true];
      for (const other of wrong) {
        expect(() => parse(bytes({ ...message, [key]: other })), `${key}: ${JSON.stringify(other)}`).toThrow(
          WireProtocolError,
        );
      }
      if (typeof value === 'number') {
        for (const other of [2 ** 60, -(2 ** 53), 0.5]) {
          const isTime = key.endsWith('Ms') && other === 0.5 && key !== 'timeoutMs' && key !== 'waitMs';
          const run = () => parse(bytes({ ...message, [key]: other }));
          if (!isTime && key !== 'graceMs' && key !== 'modifiedMs')
            expect(run, `${key}: ${other}`).toThrow(WireProtocolError);
        }
      }
      if (typeof value === 'string') {
        expect(() => parse(bytes({ ...message, [key]: `/${'x'.repeat(limits.argument)}` }))).toThrow(WireProtocolError);
      }
    }
  });
});

test('sizes are those in bytes of UTF-8, and nothing that the kernel would cut at a NUL comes through', () => {
  const stat = (value: string) => parseRequest(bytes({ type: 'fs.stat', requestId, path: value, follow: true }));
  expect(stat(`/${'x'.repeat(limits.path - 1)}`)).toBeDefined();
  expect(() => stat(`/${'x'.repeat(limits.path)}`)).toThrow(WireProtocolError);
  expect(() => stat(`/${'ü'.repeat(limits.path / 2)}`)).toThrow(WireProtocolError);
  for (const wrong of ['', 'relative', './x', '/a\0b']) expect(() => stat(wrong)).toThrow(WireProtocolError);
  const start = (argv: string[], variables: unknown = []) =>
    parseRequest(
      bytes({
        type: 'process.start',
        requestId,
        sessionId: 'root',
        argv,
        env: variables,
        detached: false,
        backpressure: false,
      }),
    );
  for (const argv of [[], ['a\0'], Array.from({ length: limits.arguments + 1 }, () => '')]) {
    expect(() => start(argv)).toThrow(WireProtocolError);
  }
  for (const variables of [[['a=b', '']], [['', '']], [['a']], [['a', 'b', 'c']], [['a', 'b\0']], { a: 'b' }]) {
    expect(() => start(['a'], variables)).toThrow(WireProtocolError);
  }
  expect(() => parseRequest(bytes({ type: 'fs.symlink', requestId, target: 'a\0b', path: '/x' }))).toThrow(
    WireProtocolError,
  );
});

test.for(['.', './x', 'x/', 'x//y', 'x/./y'])('a path in a tree is written in one way: not as %s', (path) => {
  expect(() => parser(treeChange)(bytes({ kind: 'removed', path }))).toThrow(WireProtocolError);
});

test.for(['', 'a/b', 'a b', '\u00e9', 'x'.repeat(201)])('no checkpoint has the id %j', (id) => {
  expect(() => parseRequest(bytes({ type: 'fs.rollback', requestId, id }))).toThrow(WireProtocolError);
});

test.for(['..', '../x', 'a/../../x', '/etc/passwd'])('what is said to be in a directory is: not %s', (path) => {
  expect(() => parser(fsEntry)(bytes({ name: path }))).toThrow(WireProtocolError);
  expect(() => parser(fsPath)(bytes({ path }))).toThrow(WireProtocolError);
  expect(() => parser(fsMatch)(bytes({ path, line: 1, text: '' }))).toThrow(WireProtocolError);
  expect(() => parser(treeChange)(bytes({ kind: 'removed', path }))).toThrow(WireProtocolError);
  const change = { type: 'rename', from: 'a', path: 'b', directory: false };
  expect(() => parser(fsChange)(bytes({ ...change, path }))).toThrow(WireProtocolError);
  expect(() => parser(fsChange)(bytes({ ...change, from: path }))).toThrow(WireProtocolError);
});

describe('the handshake', () => {
  const hello = { type: 'hello', protocol: protocolVersion, agentVersion: '0.1.0', nonce: 'ab'.repeat(32) };

  test('lets any version say that it is another one, whatever else it says', () => {
    expect(parseHello(bytes({ ...hello, protocol: 99, news: [1] }))).toMatchObject({ protocol: 99 });
    expect(() => parseHello(bytes({ ...hello, nonce: 'short' }))).toThrow(WireProtocolError);
  });

  test('takes an answer of this version only', () => {
    const answer = { type: 'authenticate', protocol: protocolVersion + 1, signature: 'ab'.repeat(64) };
    expect(() => parseAuthenticate(bytes(answer))).toThrow(WireProtocolError);
  });

  test('signs what belongs to one sandbox and one connection', () => {
    expect(new Set([signedText('a', 'b'), signedText('a', 'c'), signedText('b', 'b')]).size).toBe(3);
  });
});

describe('the parsers', () => {
  const parsers: Parse[] = [parseRequest, parseAnswer, parseHello, parseAuthenticate, parseWelcome, parser(fsEntry)];
  const throwsNothingElse = (input: Uint8Array) => {
    for (const parse of parsers) {
      try {
        parse(input);
      } catch (error) {
        expect(error).toBeInstanceOf(WireProtocolError);
      }
    }
  };
  const numRuns = Number(process.env.FUZZ_RUNS ?? 500);

  test('throw nothing but WireProtocolError, for any bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), throwsNothingElse), { numRuns });
  });

  test('throw nothing but WireProtocolError, for any JSON and for messages with any values in them', () => {
    const value = fc.jsonValue({ maxDepth: 3 });
    fc.assert(fc.property(value.map(bytes), throwsNothingElse), { numRuns });
    const changed = fc
      .tuple(fc.constantFrom(...messages.map(([, message]) => message)), fc.string(), value)
      .chain(([message, key, other]) =>
        fc.constantFrom(...Object.keys(message), key).map((name) => bytes({ ...message, [name]: other })),
      );
    fc.assert(fc.property(changed, throwsNothingElse), { numRuns });
  });

  test('take values that are nested to any depth for what they are', () => {
    const depth = 300_000;
    throwsNothingElse(Buffer.from(`${'['.repeat(depth)}${']'.repeat(depth)}`));
    throwsNothingElse(Buffer.from(`{"type":"fs.stat","requestId":1,"stats":${'['.repeat(depth)}${']'.repeat(depth)}}`));
    throwsNothingElse(Buffer.from(`{"a":`.repeat(100_000)));
  });

  test('repeat nothing of what they refuse', () => {
    for (const input of [
      '{"type":"secret-text"}',
      '{"type":"ping","requestId":"secret-text"}',
      '{"type":"ping","requestId":1,"secret-text":1}',
    ]) {
      expect(() => parseRequest(Buffer.from(input))).toThrow(
        expect.not.objectContaining({ message: expect.stringContaining('secret') }),
      );
    }
  });
});

test('an end with a code and a signal, or with none of both, is refused', () => {
  const exited = (ended: object) =>
    parseAnswer(Buffer.from(JSON.stringify({ type: 'process.exited', requestId, end: { ...end, ...ended } })));
  expect(exited({ exitCode: null, signal: 'SIGKILL' })).toMatchObject({ end: { signal: 'SIGKILL' } });
  expect(() => exited({ exitCode: 0, signal: 'SIGKILL' })).toThrow(WireProtocolError);
  expect(() => exited({ exitCode: null, signal: null })).toThrow(WireProtocolError);
});
