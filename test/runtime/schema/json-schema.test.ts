import * as v from 'valibot';
import { expect, test } from 'vitest';
import { inputSchemaIssues, outputSchemaIssues } from '../../../src/runtime/schema/check.ts';
import { issueText } from '../../../src/runtime/schema/issue.ts';
import { inputJsonSchema } from '../../../src/runtime/schema/json-schema.ts';
import { parse } from '../../../src/runtime/schema/parse.ts';

// contract: 1.4-input-top
test('takes each of the four object schemas at the top, also as the first item of a pipe', () => {
  const entries = { a: v.string() };
  for (const schema of [
    v.object(entries),
    v.strictObject(entries),
    v.looseObject(entries),
    v.objectWithRest(entries, v.number()),
    v.pipe(
      v.object(entries),
      v.check(() => true),
    ),
  ]) {
    expect(inputSchemaIssues(schema)).toEqual([]);
  }
});

// contract: 1.4-input-top-refused
test.each([
  ['optional', v.optional(v.object({}))],
  ['union', v.union([v.object({})])],
  ['variant', v.variant('type', [v.object({ type: v.literal('a') })])],
  ['intersect', v.intersect([v.object({})])],
  ['record', v.record(v.string(), v.string())],
  ['lazy', v.lazy(() => v.object({}))],
  ['string', v.string()],
])('refuses %s at the top of an input', (type, schema) => {
  expect(inputSchemaIssues(schema)[0]?.message).toContain(`not ${type}`);
});

// contract: 1.4-valibot
test('refuses what is no Valibot schema, also one of another library', () => {
  const foreign = { '~standard': { version: 1, vendor: 'zod', validate: () => ({ value: 1 }) } };
  for (const value of [{}, null, foreign, v.minLength(1)]) {
    expect(outputSchemaIssues(value)).toEqual([{ message: 'must be a Valibot schema' }]);
  }
});

// contract: 1.4-no-async
test('refuses an asynchronous schema wherever it stands, also behind a pipe and in a lazy one', () => {
  const asynchronous = v.pipeAsync(
    v.string(),
    v.checkAsync(async () => true),
  );
  const places = {
    entry: v.object({ a: asynchronous as unknown as v.GenericSchema }),
    item: v.array(asynchronous as unknown as v.GenericSchema),
    lazy: v.object({ a: v.lazy(() => asynchronous as unknown as v.GenericSchema) }),
    top: v.objectAsync({ a: v.string() }),
  };
  for (const [place, schema] of Object.entries(places)) {
    expect(outputSchemaIssues(schema)[0]?.message, place).toContain('asynchronous');
  }
});

// contract: 1.4-no-json-value
test.each([
  ['date', v.date()],
  ['bigint', v.bigint()],
  ['map', v.map(v.string(), v.string())],
  ['set', v.set(v.string())],
  ['instance', v.instance(Date)],
  ['file', v.file()],
  ['function', v.function()],
  ['symbol', v.symbol()],
])('refuses %s in an input, which no JSON value can be, with its path', (type, schema) => {
  const issues = inputSchemaIssues(v.object({ list: v.array(v.object({ when: v.optional(schema) })) }));
  expect(issues).toEqual([{ message: expect.stringContaining(type), path: ['list', '*', 'when'] }]);
  expect(outputSchemaIssues(v.object({ when: schema }))).toEqual([]);
});

// contract: 1.4-never
test('refuses what accepts nothing, and values to pick from that JSON can not hold, with their paths', () => {
  const level = { 1: 'high', low: 'low', high: 1 } as const; // as the compiler makes an enum
  const bigints = { a: 1n } as unknown as typeof level; // it refuses these
  const schema = v.object({
    never: v.optional(v.never()),
    pick: v.array(v.picklist(['a', 1n])),
    none: v.picklist([]),
    nan: v.picklist([1, Number.NaN]),
    listed: v.enum(bigints),
    literal: v.union([v.string(), v.literal(1n)]),
    fine: v.picklist(['a', 1]),
    level: v.enum(level),
    text: v.literal('x'),
  });
  expect(inputSchemaIssues(schema)).toEqual([
    { message: 'accepts nothing', path: ['never'] },
    { message: "accepts the bigint 1, which JSON can't hold", path: ['pick', '*'] },
    { message: 'accepts nothing', path: ['none'] },
    { message: "accepts the number NaN, which JSON can't hold", path: ['nan'] },
    { message: "accepts the bigint 1, which JSON can't hold", path: ['listed'] },
    { message: "accepts the bigint 1, which JSON can't hold", path: ['literal'] },
  ]);
  expect(inputSchemaIssues(v.objectWithRest({}, v.never()))).toEqual([{ message: 'accepts nothing', path: ['*'] }]);
  expect(outputSchemaIssues(schema)).toEqual([]);
});

// contract: 1.4-input-side
test('looks at the input side only: a text that becomes a date is fine', () => {
  const schema = v.object({
    when: v.pipe(
      v.string(),
      v.transform((text) => new Date(text)),
      v.date(),
    ),
  });
  expect(inputSchemaIssues(schema)).toEqual([]);
  expect(inputJsonSchema(schema)).toEqual({
    type: 'object',
    properties: { when: { type: 'string' } },
    required: ['when'],
  });
});

test('ends at a schema that holds itself', () => {
  interface Tree {
    children: Tree[];
  }
  const tree: v.GenericSchema<Tree> = v.object({ children: v.array(v.lazy(() => tree)) });
  expect(inputSchemaIssues(tree)).toEqual([]);
  expect(JSON.stringify(inputJsonSchema(tree))).toContain('$ref');
});

// contract: 1.4-json-schema-once, 1.4-no-input
test('makes the JSON Schema once, and an empty closed object where there is no input', () => {
  const schema = v.object({ a: v.number() });
  expect(inputJsonSchema(schema)).toBe(inputJsonSchema(schema));
  expect(inputJsonSchema(undefined)).toEqual({ type: 'object', properties: {}, additionalProperties: false });
});

// contract: 1.4-left-out
test('leaves out what JSON Schema can not say: checks, and defaults that are computed', () => {
  const schema = v.object({
    even: v.pipe(
      v.number(),
      v.check((n) => n % 2 === 0),
    ),
    id: v.optional(v.string(), () => String(Math.random())),
    size: v.optional(v.number(), 5),
  });
  expect(inputJsonSchema(schema).properties).toEqual({
    even: { type: 'number' },
    id: { type: 'string' },
    size: { type: 'number', default: 5 },
  });
});

// contract: 1.4-issues
test('says where in a value each issue is', () => {
  const schema = v.object({ list: v.array(v.object({ port: v.number() })), name: v.string() });
  const parsed = parse(schema, { list: [{ port: 1 }, { port: 'x' }] });
  expect(parsed.success ? [] : parsed.issues.map((issue) => issueText(issue, 'input'))).toEqual([
    expect.stringMatching(/^input\.list\[1\]\.port: /),
    expect.stringMatching(/^input\.name: /),
  ]);
});
