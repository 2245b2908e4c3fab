import { pino } from 'pino';
import { expect } from 'vitest';
import { pinoSink } from '../../../src/runtime/events/pino.ts';
import { eventsOf, inHarness, test } from '../../support/runtime.ts';

for (const deltas of [false, true]) {
  test(`events are lines, failures are warnings, pieces of texts ${deltas ? 'as asked' : 'are left out'}`, async ({
    runtime,
  }) => {
    const lines: { level: number; msg: string; event: { type: string } }[] = [];
    const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
    runtime.observe(pinoSink(logger, { deltas }));
    const { run } = await inHarness(runtime, ['Hi.'], async (harness) => {
      const session = await harness.session();
      await session.prompt('x');
      await session.prompt('beyond the last turn').catch(() => {});
    });
    const events = await eventsOf(run);
    const told = events.filter(({ type }) => deltas || type !== 'text_delta');
    expect(lines.map(({ event }) => event)).toEqual(told);
    const failed = told.filter((event) => 'isError' in event && event.isError);
    expect(failed.length).toBeGreaterThan(0);
    expect(lines.filter(({ level }) => level === 40)).toHaveLength(failed.length);
  });
}
