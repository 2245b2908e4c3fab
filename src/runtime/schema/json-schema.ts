import type { JSONSchema7 } from '@ai-sdk/provider';
import { toJsonSchema } from '@valibot/to-json-schema';
import * as v from 'valibot';
import type { Schema } from './parse.ts';

const cache = new WeakMap<Schema, JSONSchema7>();

const noInput: JSONSchema7 = Object.freeze({ type: 'object', properties: {}, additionalProperties: false });

/**
 * The JSON Schema of the input side of a schema: what a model is asked to write. Checks and transforms that JSON Schema
 * can't say are left out; the schema itself still holds them. Made once per schema.
 */
export function inputJsonSchema(schema: Schema | undefined): JSONSchema7 {
  if (schema === undefined) return noInput;
  let made = cache.get(schema);
  if (made === undefined) {
    made = convert(schema);
    cache.set(schema, made);
  }
  return made;
}

/** A schema that takes any object, for whoever checks it elsewhere; the JSON Schema is what a model is asked to write. */
export function foreignSchema(jsonSchema: JSONSchema7): Schema {
  const schema = v.looseObject({});
  cache.set(schema, jsonSchema);
  return schema;
}

function convert(schema: Schema): JSONSchema7 {
  const { $schema: _, ...made } = toJsonSchema(schema, {
    typeMode: 'input',
    target: 'draft-07',
    errorMode: 'ignore', // what can't be said is left out; what must not be there was refused by the definition
    overrideSchema: ({ valibotSchema, jsonSchema }) => {
      // A default that is computed changes from call to call; the schema fills it in when it parses.
      if (typeof (valibotSchema as { default?: unknown }).default !== 'function') return undefined;
      const { default: __, ...rest } = jsonSchema;
      return rest;
    },
  });
  // Through JSON: defaults and metadata of the author may be anything, and later changes to them must not show.
  return JSON.parse(JSON.stringify(made, (_key, value: unknown) => (typeof value === 'bigint' ? undefined : value)));
}
