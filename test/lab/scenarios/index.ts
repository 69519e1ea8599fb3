import type { Findings } from '../checks.ts';
import type { Lab } from '../lab.ts';
import { plain } from './plain.ts';

export interface Scenario {
  readonly name: string;
  readonly summary: string;
  readonly run: (lab: Lab) => Promise<Findings>;
}

/** In the order they run; cheap ones that prove the lab itself come first. */
export const SCENARIOS: readonly Scenario[] = [
  { name: 'plain', summary: 'plain containerds: n copies over the uplink', run: plain },
];
