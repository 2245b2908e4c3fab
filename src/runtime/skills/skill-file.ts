import { Lexer, Parser, parseDocument } from 'yaml';
import type { Problems } from '../define/checks.ts';
import { checkSkillFields, maxSkillBytes, type SkillBody, textOf } from './skill.ts';

/**
 * Of the YAML at the start of a `SKILL.md`. The parser takes time that grows with the square of some texts, and a few KB
 * of brackets end the process.
 */
const maxYamlBytes = 16 * 1024;
const maxYamlTokens = 2_000;
const maxYamlLevels = 16;

const parts = /^\uFEFF?---[ \t]*(\r?\n(?:[\s\S]*?\r?\n)?)---[ \t]*(?:\r?\n([\s\S]*))?$/;

/**
 * What a `SKILL.md` says that stands in a directory of that name.
 * @throws {DefinitionError} with everything that is wrong with it, and the problems that there were
 */
export function parseSkillFile(problems: Problems, bytes: Uint8Array, directory: string): SkillBody {
  const fields = fieldsOf(problems, bytes);
  if (fields) {
    checkSkillFields(problems, fields, (field) => (field === 'allowedTools' ? 'allowed-tools' : field));
    if (fields.name !== directory) {
      problems.add('name', `must be the same as that of the directory, ${JSON.stringify(directory)}`);
    }
  }
  problems.throwIfAny();
  return fields as unknown as SkillBody; // there are no problems, so it was checked
}

function fieldsOf(problems: Problems, bytes: Uint8Array): Record<string, unknown> | undefined {
  const refuse = (message: string) => {
    problems.add('SKILL.md', message);
    return undefined;
  };
  if (bytes.length > maxSkillBytes) return refuse('is larger than 1 MB');
  const text = textOf(bytes);
  if (text === undefined) return refuse('is not UTF-8 text');
  const [, yaml, instructions = ''] = parts.exec(text) ?? [];
  if (yaml === undefined) return refuse('must begin with YAML between two lines of ---');
  let found: unknown;
  try {
    found = parsed(yaml);
  } catch (error) {
    const [reason = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
    return refuse(`has bad YAML at its start: ${reason.slice(0, 200).replace(/:$/, '')}`);
  }
  if (!(found instanceof Map)) return refuse('must have names and values between its two lines of ---');
  const field = (name: string) => {
    const value: unknown = found.get(name);
    return typeof value === 'string' ? value.trim() : value;
  };
  // An optional one without a value is as one that is left out.
  const optional = (name: string) => {
    const value = field(name);
    return value === '' ? undefined : value;
  };
  const metadata = optional('metadata');
  return {
    name: field('name'),
    description: field('description'),
    instructions: instructions.trim(),
    license: optional('license'),
    compatibility: optional('compatibility'),
    metadata: metadata instanceof Map ? Object.fromEntries(metadata) : metadata,
    allowedTools: optional('allowed-tools'),
  };
}

/** Maps as `Map`, so that no key has a meaning of its own, and every scalar as text. */
function parsed(yaml: string): unknown {
  if (Buffer.byteLength(yaml) > maxYamlBytes) throw new Error(`it is longer than ${maxYamlBytes / 1024} KB`);
  const parser = new Parser();
  let tokens = 0;
  for (const lexeme of new Lexer().lex(yaml)) {
    for (const _ of parser.next(lexeme)); // only how deep it is
    if (++tokens > maxYamlTokens) throw new Error(`it has more than ${maxYamlTokens} tokens`);
    if (parser.stack.length > maxYamlLevels) throw new Error(`it is nested more than ${maxYamlLevels} levels deep`);
  }
  const document = parseDocument(yaml, { schema: 'failsafe' });
  const [error] = document.errors;
  if (error) throw error;
  return document.toJS({ mapAsMap: true });
}
