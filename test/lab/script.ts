import { fileURLToPath } from 'node:url';

/** The command that runs a TypeScript file of the lab in a process of its own. */
export function script(name: string, ...args: string[]): string[] {
  const file = fileURLToPath(new URL(name, import.meta.url));
  return [process.execPath, '--import', import.meta.resolve('tsx'), file, ...args];
}
