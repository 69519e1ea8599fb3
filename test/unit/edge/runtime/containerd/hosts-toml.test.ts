import { describe, expect, it } from 'vitest';
import { directoryName, hostsToml, namesHost } from '../../../../../edge/runtime/containerd/hosts-toml.ts';

const mirror = 'http://127.0.0.1:6180';
const ours = `[host."${mirror}"]\n  capabilities = ["pull", "resolve"]\n`;

/** Everything but the line that says whose the file is. */
function body(text: string): string {
  return text.slice(text.indexOf('\n') + 1);
}

describe('hostsToml', () => {
  it('names the mirror alone where nothing was', () => {
    expect(body(hostsToml({ mirror, before: undefined, server: undefined, fallback: true }))).toBe(
      `\n${ours}`,
    );
  });

  it('names the registry itself where its URL is given', () => {
    const text = hostsToml({ mirror, before: undefined, server: 'http://10.0.0.1:5000', fallback: true });
    expect(body(text)).toBe(`server = "http://10.0.0.1:5000"\n\n${ours}`);
  });

  it('stands before the hosts that were there, after the keys of the whole file', () => {
    const before = `# mine\nserver = "https://reg.example"\nca = [\n  "a.pem",\n  "b.pem"\n]\n\n[host."https://m.example"]\n  capabilities = ["pull"]\n`;
    const text = body(hostsToml({ mirror, before, server: 'https://other.example', fallback: true }));
    expect(text).toBe(
      `# mine\nserver = "https://reg.example"\nca = [\n  "a.pem",\n  "b.pem"\n]\n\n\n${ours}\n[host."https://m.example"]\n  capabilities = ["pull"]\n`,
    );
  });

  it('takes no bracket in a string, a comment or a list for a table', () => {
    const before = `a = [\n  ["x", "y"],\n["z", "w"]\n]\nb = """\n[host."no"]\n"""\nc = "[" # [\n  [host."yes"]\n`;
    const text = body(hostsToml({ mirror, before, server: undefined, fallback: true }));
    expect(text.indexOf(ours)).toBe(text.indexOf('  [host."yes"]') - ours.length - 1);
    expect(text.startsWith(before.slice(0, before.indexOf('  [host."yes"]')))).toBe(true);
  });

  it('is the only way where no fallback is wanted', () => {
    const text = hostsToml({ mirror, before: '[host."https://m"]\n', server: 'https://x', fallback: false });
    expect(body(text)).toBe(`server = "${mirror}"\n\n${ours}`);
  });

  it('goes on with certificates that containerd would not read beside a hosts.toml', () => {
    const text = hostsToml({
      mirror,
      before: undefined,
      server: undefined,
      fallback: true,
      certificates: { authorities: ['/d/ca.crt'], clients: [['/d/c.cert', '/d/c.key']] },
    });
    expect(body(text)).toBe(`ca = ["/d/ca.crt"]\nclient = [["/d/c.cert", "/d/c.key"]]\n\n${ours}`);
  });
});

describe('namesHost', () => {
  it('sees a table for the mirror, however it is written', () => {
    expect(namesHost('[host."http://127.0.0.1:6180"]', mirror)).toBe(true);
    expect(namesHost("x = 1\n  [ host . 'http://127.0.0.1:6180/' ]\n", mirror)).toBe(true);
    expect(namesHost('# [host."http://127.0.0.1:6180"]', mirror)).toBe(false);
    expect(namesHost('[host."http://127.0.0.1:61800"]', mirror)).toBe(false);
  });
});

describe('directoryName', () => {
  it('is what containerd looks for first', () => {
    expect(directoryName('docker.io')).toBe('docker.io');
    expect(directoryName('reg.example:5000')).toBe('reg.example_5000_');
    expect(directoryName('[fd00::1]:5000')).toBe('[fd00::1]_5000_');
  });
});
