import { describe, expect, it } from 'vitest';
import { TuningNotices } from '../../../../cloud/broker/tuning-notices.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

function fixture() {
  const clock = new ManualClock();
  const said: string[] = [];
  const notices = new TuningNotices({
    clock,
    feedback: {
      notice: ({ kind, name }, type, reason, message) =>
        said.push(`${kind}/${name} ${type} ${reason}: ${message}`),
    },
  });
  const tell = (...messages: string[]): string[] => {
    said.length = 0;
    notices.tell(messages.map((message) => ({ source: 't', message })));
    return [...said];
  };
  return { clock, tell };
}

describe('TuningNotices', () => {
  it('says each problem once, again while it stays, and when all is well', () => {
    const { clock, tell } = fixture();
    expect(tell()).toEqual([]);
    expect(tell('a')).toEqual(['ConfigMap/tidepool-tuning Warning TuningProblem: a']);
    expect(tell('a', 'b')).toEqual(['ConfigMap/tidepool-tuning Warning TuningProblem: b']);
    clock.advance(299_999);
    expect(tell('a', 'b')).toEqual([]);
    clock.advance(1);
    expect(tell('a')).toEqual(['ConfigMap/tidepool-tuning Warning TuningProblem: a']);
    expect(tell()).toEqual(['ConfigMap/tidepool-tuning Normal TuningSound: every entry is in force again']);
    expect(tell()).toEqual([]);
    expect(tell('a')).toHaveLength(1);
  });

  it('does not flood', () => {
    const { tell } = fixture();
    expect(tell(...Array.from({ length: 500 }, (_, n) => `p${n}`))).toHaveLength(20);
  });
});
