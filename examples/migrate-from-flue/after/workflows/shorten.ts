import { defineWorkflow } from 'berth';
import { shorten } from '../actions/shorten.ts';
import editor from '../agents/editor.ts';

export default defineWorkflow({ agent: editor, action: shorten });
