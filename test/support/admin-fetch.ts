import { join } from 'node:path';
import { Agent, fetch, type RequestInit, type Response } from 'undici';

/** A request over the socket of the agent that keeps its data there; the answer is whole. */
export async function adminFetch(data: string, path: string, init: RequestInit = {}): Promise<Response> {
  const dispatcher = new Agent({ connect: { socketPath: join(data, 'ops.sock') } });
  try {
    const answer = await fetch(`http://agent${path}`, { ...init, dispatcher });
    const copy = answer.clone();
    await answer.arrayBuffer();
    return copy;
  } finally {
    await dispatcher.close();
  }
}
