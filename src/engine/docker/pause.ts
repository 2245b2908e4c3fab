import { setTimeout as sleep } from 'node:timers/promises';
import type Docker from 'dockerode';

const maxAttempts = 5;

/**
 * With cgroup v1 a container whose processes start others just then may fail to freeze; runc thaws it, says so and leaves it
 * to its caller to try again: opencontainers/runc, pull request 4388.
 */
export async function pauseContainer(container: Docker.Container): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await container.pause();
      return;
    } catch (error) {
      if (attempt === maxAttempts || !String(error).includes('unable to freeze')) throw error;
      await sleep(attempt * 50);
    }
  }
}
