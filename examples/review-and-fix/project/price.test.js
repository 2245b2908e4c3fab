import assert from 'node:assert';
import test from 'node:test';
import { discounted, shown } from './price.js';

test('takes a discount off', () => assert.equal(discounted(1000, 20), 800));
test('gives whole cents', () => assert.equal(discounted(999, 15), 849));
test('shows two decimals', () => assert.equal(shown(850), '8.50 EUR'));
