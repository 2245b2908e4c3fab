import fc from 'fast-check';

// The same inputs in each run of the ordinary tests: a change fails for what it does, not by chance. Another seed is for
// who looks for more.
fc.configureGlobal({ seed: Number(process.env.BERTH_FUZZ_SEED ?? 7) });
