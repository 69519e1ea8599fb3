/** What a command may touch of its process; tests give their own. */
export interface CliIo {
  readonly stdout: {
    write(text: string): unknown;
    readonly isTTY?: boolean;
    readonly columns?: number;
    readonly rows?: number;
  };
  readonly stderr: { write(text: string): unknown };
  /** Aborts on Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
}

/** Exit codes that scripts may rely on. */
export const EXIT = { ok: 0, failed: 1, usage: 2 } as const;
