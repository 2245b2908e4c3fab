import { defineWorkflow } from '@flue/runtime';
import { shorten } from '../actions/shorten.ts';
import editor from '../agents/editor.ts';

export default defineWorkflow({ agent: editor, action: shorten });
