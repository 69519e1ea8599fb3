import { describe, expect, it } from 'vitest';
import { issueNode, makeHubPair, makeRoot } from '../../../../cloud/trust/issue.ts';
import { makeRequest } from '../../../../edge/identity/request.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { readCertificate } from '../../../../shared/trust/certificate.ts';
import { DAY_MS } from '../../../support/trust.ts';

const validity = { now: Date.parse('2026-06-01T00:00:00Z'), lifetimeMs: 90 * DAY_MS };
const who = { node: parseNodeName('node-1'), pool: parsePoolName('shop') };

describe('issuing', () => {
  it('takes nothing of a request but its key', async () => {
    const root = await makeRoot('tidepool', validity);
    const { request } = await makeRequest('somebody-else');
    const read = readCertificate(await issueNode(root, request, who, validity));
    expect(read.subject).toEqual({ kind: 'node', ...who });
    expect(read.certificate.subject).toBe('CN=node-1');
    expect(read.notAfter).toBe(validity.now + validity.lifetimeMs);
    expect(read.notBefore).toBeLessThan(validity.now);
    expect(read.certificate.ca).toBe(false);
  });

  it('writes no serial twice', async () => {
    const root = await makeRoot('tidepool', validity);
    const { request } = await makeRequest('node-1');
    const first = readCertificate(await issueNode(root, request, who, validity));
    const second = readCertificate(await issueNode(root, request, who, validity));
    expect(first.serial).not.toBe(second.serial);
    expect(first.keyId).toBe(second.keyId);
  });

  it('names the hosts of a hub beside who it is', async () => {
    const root = await makeRoot('tidepool', validity);
    const { cert } = await makeHubPair(root, validity, ['hub.example', '10.0.0.1', 'fd00::1']);
    expect(readCertificate(cert).subject).toEqual({ kind: 'hub' });
    expect(readCertificate(cert).certificate.checkHost('hub.example')).toBe('hub.example');
    expect(readCertificate(cert).certificate.checkIP('10.0.0.1')).toBe('10.0.0.1');
  });

  it('refuses rubbish, a request signed by another key, and one that is too large', async () => {
    const root = await makeRoot('tidepool', validity);
    const { request } = await makeRequest('node-1');
    await expect(issueNode(root, 'rubbish', who, validity)).rejects.toThrow(/request is refused/);
    await expect(issueNode(root, request.repeat(20), who, validity)).rejects.toThrow(/larger/);
    const lines = request.split('\n');
    const der = Buffer.from(lines.filter((line) => !line.startsWith('-')).join(''), 'base64');
    der[der.length - 3] = (der[der.length - 3] ?? 0) ^ 1;
    const tampered = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----`;
    await expect(issueNode(root, tampered, who, validity)).rejects.toThrow(/request is refused/);
  });
});
