import { createHash } from 'node:crypto';
import { Problems } from '../define/checks.ts';
import { defined, isDefined } from '../define/definition.ts';
import { skillNamePattern } from '../define/names.ts';
import { pathText } from '../schema/path.ts';
import { isPlainObject } from '../schema/snapshot.ts';
import { utf8Text } from '../utf8-text.ts';

/** Bytes of a `SKILL.md`, and so of instructions. */
export const maxSkillBytes = 1024 * 1024;
/** Of the files that one skill brings. */
export const maxFiles = 1_000;
export const maxFilesBytes = 16 * 1024 * 1024;
const maxPathBytes = 1_024;

/** What a skill says: the fields of a `SKILL.md`, and its text. */
export interface SkillBody {
  readonly name: string;
  readonly description: string;
  readonly instructions: string;
  readonly license?: string;
  readonly compatibility?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  /** Not enforced. */
  readonly allowedTools?: string;
}

/** A file that a skill brings; what is no UTF-8 text is in base64. */
export interface SkillFile {
  /** Relative to the skill. */
  readonly path: string;
  /** How `content` is written. */
  readonly encoding: 'utf8' | 'base64';
  /** All of it. */
  readonly content: string;
}

/** A skill that was made by `defineSkill` or `loadSkill`. Known by identity: a copy is refused. */
export interface SkillReference extends SkillBody {
  /** What its instructions refer to, in the order of their paths. */
  readonly files: readonly SkillFile[];
  /** What its files are below for a model: it has a hash of all of the skill, and is not in the sandbox. */
  readonly directory: string;
}

/** A skill of an agent. Of one with a name and a description only, a model sees these, and nothing more when it asks. */
export type Skill = SkillReference | { readonly name: string; readonly description: string };

/** What a skill is made of. A field that it does not have is refused. */
export interface DefineSkillOptions {
  /** Lower-case words and numbers joined by single hyphens; at most 64 characters. */
  name: string;
  /** What it is good for, and when: a model sees this always. At most 1,024 characters. */
  description: string;
  /** What a model gets when it takes the skill up. At most 1 MiB. Default: none */
  instructions?: string;
  /** Kept, and no more. */
  license?: string;
  /** What it needs. At most 500 characters. Kept, and no more. */
  compatibility?: string;
  /** Texts by their names. Kept, and no more. */
  metadata?: Readonly<Record<string, string>>;
  /** Kept, not enforced. */
  allowedTools?: string;
  /**
   * What the instructions refer to, by relative paths with `/`: at most 1,000 files, together at most 16 MiB. A model
   * reads them when it needs them. Default: none
   */
  files?: Readonly<Record<string, string | Uint8Array>>;
}

/**
 * Defines a skill: instructions that a model takes up when they are of use.
 * @throws {DefinitionError} with everything that is wrong with the definition
 * @example
 * const releaseNotes = defineSkill({
 *   name: 'release-notes',
 *   description: 'How release notes are written here. For every change that users notice.',
 *   instructions: 'One line for each change. The words of the user, not those of the code.',
 * });
 */
export function defineSkill(options: DefineSkillOptions): SkillReference {
  const problems = new Problems('The skill');
  const fields = problems.record(options, '', {
    known: [
      ...['name', 'description', 'instructions'],
      ...['license', 'compatibility', 'metadata', 'allowedTools', 'files'],
    ],
  });
  checkSkillFields(problems, fields);
  problems.optional(fields.instructions, 'instructions', (value, path) => {
    if (typeof value !== 'string') problems.add(path, 'must be a string');
    else if (Buffer.byteLength(value) > maxSkillBytes) problems.add(path, 'must be at most 1 MB');
  });
  checkFiles(problems, problems.entries(fields.files, 'files'));
  problems.throwIfAny();
  return makeSkill({ ...options, instructions: options.instructions ?? '' }, Object.entries(options.files ?? {}));
}

/** A skill as it stands in a `skills` array. */
export function checkSkillItem(problems: Problems, item: unknown, path: string): void {
  if (isSkill(item)) return;
  const isOfDefinition = 'is a field of defineSkill(): give what that returned, not a copy';
  const fields = ['instructions', 'license', 'compatibility', 'metadata', 'allowedTools', 'files', 'directory'];
  const record = problems.record(item, path, {
    known: ['name', 'description'],
    advice: Object.fromEntries(fields.map((field) => [field, isOfDefinition])),
  });
  checkSkillFields(problems, record, (field) => `${path}.${field}`);
}

/** The definition of an item that `checkSkillItem` accepted. */
export function toSkill(item: Skill): Skill {
  return isSkill(item) ? item : Object.freeze({ name: item.name, description: item.description });
}

export function isSkill(value: unknown): value is SkillReference {
  return isDefined('skill', value);
}

/** Those of the references that bring files. */
export function withFiles(skills: readonly Skill[]): SkillReference[] {
  return skills.filter(isSkill).filter(({ files }) => files.length > 0);
}

/** @param at - the path of a field in problems */
export function checkSkillFields(
  problems: Problems,
  fields: Record<string, unknown>,
  at: (field: string) => string = (field) => field,
): void {
  const string = (field: string, most = Number.POSITIVE_INFINITY) =>
    problems.optional(fields[field], at(field), (value, path) => {
      if (typeof value !== 'string') problems.add(path, 'must be a string');
      else if ([...value].length > most) problems.add(path, `must have at most ${most} characters`);
    });
  problems.name(fields.name, at('name'), skillNamePattern);
  problems.text(fields.description, at('description'));
  if (typeof fields.description === 'string') string('description', 1_024);
  string('license');
  string('compatibility', 500);
  string('allowedTools');
  problems.optional(fields.metadata, at('metadata'), (value, path) => {
    const isRecord = typeof value === 'object' && value !== null && isPlainObject(value);
    if (!isRecord || !Object.values(value).every((item) => typeof item === 'string')) {
      problems.add(path, 'must have strings by their names');
    }
  });
}

/** Checks the files of a skill, by their paths in it. */
export function checkFiles(problems: Problems, files: readonly (readonly [path: string, content: unknown])[]): void {
  if (files.length > maxFiles) problems.add('files', `are more than ${maxFiles}`);
  let bytes = 0;
  for (const [path, content] of files) {
    const issue = pathIssue(path);
    if (issue !== undefined) problems.add(pathText('files', [path]), issue);
    if (typeof content === 'string') bytes += Buffer.byteLength(content);
    else if (content instanceof Uint8Array) bytes += content.length;
    else problems.add(pathText('files', [path]), 'must be a string or bytes');
  }
  if (bytes > maxFilesBytes) problems.add('files', 'are together larger than 16 MB');
}

function pathIssue(path: string): string | undefined {
  if (path === 'SKILL.md') return 'is the skill itself: give its text as instructions';
  // A line end in a path would be one in the list of files.
  if (/[\\\p{Cc}]/u.test(path)) return 'has a backslash or a control character in its path';
  if (path.split('/').some((part) => part === '' || part === '.' || part === '..')) {
    return 'must have a relative path, without . and .. and empty parts';
  }
  return Buffer.byteLength(path) > maxPathBytes ? `has a path of more than ${maxPathBytes} bytes` : undefined;
}

/** The definition of fields and files that were checked. */
export function makeSkill(
  { name, description, instructions, license, compatibility, metadata, allowedTools }: SkillBody,
  given: readonly (readonly [path: string, content: string | Uint8Array])[],
): SkillReference {
  const body = {
    name,
    description: description.trim(),
    instructions: instructions.trim(),
    ...(license !== undefined && { license }),
    ...(compatibility !== undefined && { compatibility }),
    ...(metadata !== undefined && { metadata: Object.freeze({ ...metadata }) }),
    ...(allowedTools !== undefined && { allowedTools }),
  };
  const files = given.map(([path, content]) => Object.freeze(skillFile(path, content)));
  files.sort((a, b) => (a.path < b.path ? -1 : 1));
  const hash = createHash('sha256')
    .update(JSON.stringify([body, files]))
    .digest('hex')
    .slice(0, 16);
  return defined('skill', { ...body, files: Object.freeze(files), directory: `/.berth/skills/${name}-${hash}` });
}

function skillFile(path: string, content: string | Uint8Array): SkillFile {
  const text = typeof content === 'string' ? content : textOf(content);
  if (text !== undefined) return { path, encoding: 'utf8', content: text };
  return { path, encoding: 'base64', content: Buffer.from(content).toString('base64') };
}

/** Bytes as text, all of them; `undefined` where they are none. */
export function textOf(bytes: Uint8Array): string | undefined {
  return bytes.includes(0) ? undefined : utf8Text(bytes);
}
