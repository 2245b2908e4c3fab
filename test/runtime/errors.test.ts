import { expect, test } from 'vitest';
import { BerthError } from '../../src/errors.ts';
import * as library from '../../src/index.ts';

/** What a server answers with for each class, as it was promised. */
const statuses: Record<number, string[]> = {
  400: [
    'InvalidRequestError',
    'ActionInputValidationError',
    'WorkflowInputUnexpectedError',
    'WorkflowInputSerializationError',
  ],
  404: ['WorkflowNotFoundError', 'AgentNotFoundError', 'RunNotFoundError', 'SessionNotFoundError'],
  409: [
    'SessionAlreadyExistsError',
    'SessionBusyError',
    'FilesConflictError',
    'RunConflictError',
    'FilesConflictError',
    'SubmissionConflictError',
    'RunCancelledError',
    'SubmissionAbortedError',
  ],
  500: [
    'DefinitionError',
    'ToolNameConflictError',
    'ActionOutputValidationError',
    'ActionOutputSerializationError',
    'ToolInputValidationError',
    'ToolOutputValidationError',
    'ToolOutputSerializationError',
    'StepOutputSerializationError',
    'HarnessClosedError',
    'ReplayMismatchError',
    'AttemptsFailedError',
    'SubmissionRetryExhaustedError',
    'TurnLimitError',
    'ResultUnavailableError',
    'DelegationDepthExceededError',
    'SubagentNotDeclaredError',
    'AttachmentNotAvailableError',
    'AttachmentConflictError',
    'AttachmentIntegrityError',
    'SkillNotRegisteredError',
    'ModelNotConfiguredError',
    'InvalidModelError',
    'ModelNotFoundError',
    'ProviderCredentialsError',
    'ProviderRegistrationError',
    'SandboxDiedError',
    'SandboxGoneError',
    'SandboxOperationUnsupportedError',
    'FileError',
  ],
  502: ['OperationFailedError'],
  503: ['RuntimeUnavailableError', 'WorkflowAdmissionError'],
  504: ['ActionTimeoutError', 'SubmissionTimeoutError', 'WaitTimeoutError'],
};

/** The codes that are not the name of their class. */
const otherCodes: Record<string, string> = {
  DefinitionError: 'invalid_definition',
  ProviderRegistrationError: 'invalid_provider_registration',
  FileError: 'ENOENT',
  WorkflowAdmissionError: 'workflow_admission_failed',
};

const snakeCase = (name: string) =>
  name
    .replace(/Error$/, '')
    .replace(/(?<!^)[A-Z]/g, '_$&')
    .toLowerCase();

/** An error of the class; only its constructor knows which data its text is made of. */
function anError(name: string): BerthError {
  const { [name]: made } = library as unknown as Record<string, new (...data: object[]) => BerthError>;
  if (!made) throw new Error(`${name} is not exported`);
  return new made({ issues: [], sources: [], known: [], paths: [], errors: [], code: 'ENOENT' }, [], []);
}

// contract: 9-code, 9-classes
test.each(Object.entries(statuses).flatMap(([status, names]) => names.map((name) => [name, Number(status)] as const)))(
  '%s has the code of its name, and the status %i',
  (name, status) => {
    const error = anError(name);
    expect({ name: error.name, code: error.code, type: error.type, status: error.status }).toEqual({
      name,
      code: otherCodes[name] ?? snakeCase(name),
      type: otherCodes[name] ?? snakeCase(name),
      status,
    });
  },
);

// contract: 9-fields
test('an error has code, type, message, details, status and meta; hint and cause where there are any', async () => {
  await using runtime = await library.createRuntime();
  const error: unknown = await runtime.run('nowhere').catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(BerthError);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({
    code: 'run_not_found',
    type: 'run_not_found',
    message: expect.stringMatching(/^[^\n]+$/),
    details: expect.stringContaining('nowhere'),
    status: 404,
    meta: { runId: 'nowhere' },
  });
  expect(error).toMatchObject({ hint: undefined });
  expect(error).not.toHaveProperty('cause');
  const workflow = library.defineWorkflow({ name: 'w', agent: library.defineAgent(() => ({})), run: () => 1 });
  await expect(runtime.invoke(workflow, { model: 'nobody/knows' })).rejects.toMatchObject({
    hint: expect.stringContaining('anthropic'),
  });
  const cause = new Error('no memory');
  expect(new library.SandboxDiedError({ sandboxId: 's', reason: 'oom' }, { cause })).toMatchObject({ cause });
});

// contract: 9-cancellation
test('a cancelled call rejects with a DOMException named AbortError, which is no BerthError', async () => {
  await using runtime = await library.createRuntime();
  const workflow = library.defineWorkflow({ name: 'w', agent: library.defineAgent(() => ({})), run: () => 1 });
  const signal = AbortSignal.abort('enough');
  const error: unknown = await runtime.invoke(workflow, { signal }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(DOMException);
  expect(error).not.toBeInstanceOf(BerthError);
  expect(error).toMatchObject({ name: 'AbortError', cause: 'enough' });
});
