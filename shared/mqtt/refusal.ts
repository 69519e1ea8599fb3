/** CONNACK of MQTT 3.1.1: unacceptable version, identifier, server away, bad account, not authorised. */
const SERVER_AWAY = 3;
const LAST = 5;

/** Whether the other side said no, or was not the one it should be; everything else is an outage. */
export function isRefusal(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? error.code : undefined;
  if (typeof code === 'number') return code >= 1 && code <= LAST && code !== SERVER_AWAY;
  if (code === 'CERTIFICATE_REFUSED') return true;
  if (typeof code === 'string' && /^ERR_(SSL|TLS)_.*(ALERT|CERT)/.test(code)) return true;
  return isRefusal(error.cause);
}
