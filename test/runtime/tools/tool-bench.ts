import { writeFile } from 'node:fs/promises';
import { builtinTools } from '../../../src/runtime/tools/builtin.ts';
import { SandboxTools } from '../../../src/runtime/tools/tool-environment.ts';
import { localEnv } from '../../support/local-env.ts';

/** The built-in tools at work in a directory of this machine. Close it with `await using`. */
export async function toolBench({ seesImages = true, path }: { seesImages?: boolean; path?: string } = {}) {
  const env = await localEnv(path === undefined ? {} : { path });
  const shared = new SandboxTools();
  const tools = builtinTools({ env, shared, seesImages, key: (toolCallId) => toolCallId });
  const output: string[] = [];
  const stop = new AbortController();

  async function call(name: string, input: unknown) {
    const tool = tools.find((tool) => tool.name === name);
    if (!tool) throw new Error(`no tool ${name}`);
    return tool.run(input, {
      toolCallId: 'call_1',
      signal: stop.signal,
      output: (stream, text) => output.push(`${stream}: ${text}`),
    });
  }

  return {
    env,
    shared,
    output,
    stop,
    call,
    /** The text that a model gets; images as their type. */
    async text(name: string, input: unknown): Promise<string> {
      const { content } = await call(name, input);
      return content.map((part) => (part.type === 'text' ? part.text : part.mimeType)).join('\n');
    },
    /** The text of the error that a call rejects with. */
    async error(name: string, input: unknown): Promise<string> {
      try {
        await call(name, input);
      } catch (error) {
        return error instanceof Error ? error.message : String(error);
      }
      throw new Error('the call did not fail');
    },
    write: (name: string, content: string | Uint8Array) => writeFile(env.resolvePath(name), content),
    async [Symbol.asyncDispose]() {
      await shared.removeOutputs(env);
      await env.close();
    },
  };
}
