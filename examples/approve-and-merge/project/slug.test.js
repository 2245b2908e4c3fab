import assert from 'node:assert/strict';
import { test } from 'node:test';
import { slug } from './slug.js';

test('a title of two words', () => assert.equal(slug('Hello world'), 'hello-world'));
test('a title of four words', () => assert.equal(slug('How to read maps'), 'how-to-read-maps'));
