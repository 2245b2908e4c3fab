import type { Usage } from '../model/model.ts';
import { addUsage, noUsage } from '../model/usage.ts';
import type { Emit, EventScope } from './event.ts';

/** Emits with a scope laid under that of each event. */
export function within(emit: Emit, scope: EventScope): Emit {
  return (body, own) => emit(body, { ...scope, ...own });
}

/** Is told of each model request. */
interface Counting {
  add(usage: Usage): void;
  /** As `add`, of requests of an earlier attempt. Left out: it has counted these itself, and kept them. */
  restore?(usage: Usage): void;
}

/** Sums the model requests of one piece of work, and with them those of what it is a part of. */
export class UsageMeter implements Counting {
  #total = noUsage();
  readonly #wholes: readonly Counting[];

  constructor(...wholes: readonly Counting[]) {
    this.#wholes = wholes;
  }

  get total(): Usage {
    return this.#total;
  }

  /** An emitter that counts the requests it tells of. */
  counting(emit: Emit): Emit {
    return (body, scope) => {
      if (body.type === 'turn' && body.usage) this.add(body.usage);
      emit(body, scope);
    };
  }

  add(usage: Usage): void {
    this.#total = addUsage(this.#total, usage);
    for (const whole of this.#wholes) whole.add(usage);
  }

  restore(usage: Usage): void {
    this.#total = addUsage(this.#total, usage);
    for (const whole of this.#wholes) whole.restore?.(usage);
  }
}
