import { describe, expect, it } from 'vitest';
import { checkTuning } from '../../../../cloud/pools/tuning-check.ts';

const lines = (text: string): string[] =>
  checkTuning(text).offences.map(({ line, message }) => `${line}: ${message}`);

describe('checkTuning', () => {
  it('finds each mistake of a ConfigMap at its line in the file, with what was meant', () => {
    const text = [
      'apiVersion: v1', // 1
      'kind: NodePool', // another document is none of its business
      'metadata: {name: x}',
      '---',
      'apiVersion: v1', // 5
      'kind: ConfigMap',
      'metadata: {name: tidepool-tuning}',
      'data:',
      '  wan: |- # caps', // 9
      '    wan:',
      '    - name: everyone',
      '      settings: {downlaod: 50Mbit}', // 12
      '    - name: thin',
      '      key: pool',
      '      operator: In',
      '      value: hangzhou',
      '      settings:',
      '        download: fast', // 18
      '        upload: 1Mbit', // 19
      '        prefetch:',
      '          dailyBudget: lots', // 21
      '          windows:',
      '          - {days: [mon, son], start: "1:00", end: "27:00"}', // 23
      '  tags: "[{name: a, settings: {policy: newest}}]"', // 24
      '  cache: "[{name: a, settings: {quota: much}}]"', // 25
      '  swrm: ""', // 26
      '  lan: 5', // 27
    ].join('\n');
    expect(lines(text)).toEqual(
      [
        '12: wan[0].settings: unknown key "downlaod"; did you mean "download"?',
        '18: wan[1].settings.download: not a rate: "fast"; write it like 20Mbit or 256kbit; none lifts what an earlier entry set',
        '17: wan[1].settings: unknown key "upload"; what an agent sends, to neighbours and to pools below it, is capped by lan.upload',
        '21: wan[1].settings.prefetch.dailyBudget: not a size: "lots"; write it like 8Gi or 500MB; none lifts what an earlier entry set',
        '23: wan[1].settings.prefetch.windows[0].days[1]: not a day; write one of mon, tue, wed, thu, fri, sat, sun',
        '23: wan[1].settings.prefetch.windows[0].end: not a time of day: "27:00"; write it like "05:30"',
        '24: [0].settings.policy: Invalid option: expected one of "fresh"|"stale-if-offline"|"pinned"',
        '25: [0].settings.quota: not a size: "much"; write it like 8Gi or 500MB; none lifts what an earlier entry set',
        '26: unknown tuning kind "swrm"; did you mean "swarm"?',
        '27: data.lan: a ConfigMap holds text; write "lan: |-" and the list beneath',
      ].map((each) => each.replace(/^17:/, '19:')),
    );
  });

  it('reads kinds by themselves', () => {
    const text =
      'wan:\n- {name: a, settings: {download: 1Mbit}}\nlan:\n- name: b\n  settings: {uplaod: 1Mbit}\n';
    expect(lines(text)).toEqual(['5: [0].settings: unknown key "uplaod"; did you mean "upload"?']);
    const sound = checkTuning('wan:\n- {name: a, settings: {download: 1Mbit}}\nlan: []\n');
    expect(sound).toEqual({
      offences: [],
      entries: 1,
      data: { wan: '[{"name":"a","settings":{"download":"1Mbit"}}]', lan: '[]' },
    });
  });

  it('takes a ConfigMap of another name where it holds kinds, and one without data as all defaults', () => {
    const named = (name: string, data: string): string =>
      `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}}\n${data}`;
    expect(lines(named('my-release-tuning', 'data: {wan: "- {name: a}"}'))).toEqual([
      expect.stringMatching(/^4: \[0\].settings: /),
    ]);
    expect(lines(named('tidepool-tuning', ''))).toEqual([]);
    expect(
      lines(
        `${named('tidepool-tuning', 'data: {wan: ""}')}\n---\n${named('tidepool-tuning', 'data: {wan: ""}')}`,
      ),
    ).toEqual(['9: a second wan; the hub reads one ConfigMap']);
    expect(lines(named('other', 'data: {a: b}'))).toEqual([expect.stringMatching(/^1: no tuning in it/)]);
  });

  it('says where YAML itself is broken, and what is in no form at all', () => {
    expect(lines('wan: [')).toEqual([expect.stringMatching(/^1: /)]);
    expect(lines('- {name: a}')).toEqual([expect.stringMatching(/^1: a list of entries says nothing/)]);
    expect(lines('')).toEqual([expect.stringMatching(/^1: no tuning in it/)]);
    const broken = 'kind: ConfigMap\nmetadata: {name: tidepool-tuning}\ndata:\n  wan: |\n    - {name: a\n';
    expect(lines(broken)).toEqual([expect.stringMatching(/^[56]: /)]);
  });
});
