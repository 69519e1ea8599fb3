import { type Command, Option } from 'commander';
import { BROKER_ACL_FORMATS, type BrokerAclFormat, type BrokerAclView } from '../../shared/wire/api.ts';
import { type HubFlags, hubClient, withHub } from './hub-access.ts';
import type { CliIo } from './io.ts';

const HELP = `
The hub's own broker needs none of this. Another one gets a certificate and the rules, and a run with --broker:

Mosquitto, /etc/mosquitto/conf.d/tidepool.conf:
  listener 8883
  tls_version tlsv1.3
  cafile   /etc/mosquitto/tidepool/roots.pem     # tidepool-hub ca
  certfile /etc/mosquitto/tidepool/broker.pem
  keyfile  /etc/mosquitto/tidepool/broker-key.pem
  require_certificate true
  use_identity_as_username true
  use_username_as_clientid true                  # nobody takes another node's place by its client id
  allow_anonymous false
  acl_file /etc/mosquitto/tidepool/acl
  max_packet_size 83000
  max_keepalive 600
  After a change: write the file anew and send SIGHUP (systemctl reload mosquitto).

Mosquitto's dynamic security plugin (--format dynsec), instead of acl_file; it reads the file at its start:
  plugin /usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so
  plugin_opt_config_file /etc/mosquitto/tidepool/dynamic-security.json

EMQX 5 (--format emqx), the rules as etc/acl.conf, and in emqx.conf:
  listeners.ssl.default.ssl_options { verify = verify_peer, fail_if_no_peer_cert = true, versions = ["tlsv1.3"], cacertfile = ".../roots.pem" }
  mqtt { peer_cert_as_username = cn, peer_cert_as_clientid = cn, max_packet_size = 83000 }
  authorization { no_match = deny, deny_action = disconnect, sources = [{ type = file, enable = true, path = "etc/acl.conf" }] }

Write the rules anew after each enrolment, move and revocation. Such a broker tells nodes apart by name and not by key:
a node that was revoked has no rules any more; one that was enrolled again under its name shares them with its old key
until that certificate ends. What the hub says is signed either way, so no broker can put words into its mouth.

Examples:
  tidepool-hub broker acl --format mosquitto >/etc/mosquitto/tidepool/acl && systemctl reload mosquitto
  tidepool-hub broker acl --format emqx >acl.conf`;

interface Flags extends HubFlags {
  readonly format: BrokerAclFormat;
}

/** `broker acl`: the policy of the embedded broker, for others. */
export function addBroker(program: Command, io: CliIo): void {
  const broker = program.command('broker').description('for MQTT brokers that are not the hub’s own');
  withHub(broker.command('acl'))
    .description('print who may publish and read what, by certificates, as a broker’s rules')
    .addOption(
      new Option('--format <format>', 'whose rules').choices(BROKER_ACL_FORMATS).default('mosquitto'),
    )
    .addHelpText('after', HELP)
    .action(async ({ format, ...flags }: Flags) => {
      const { text, leftOut } = await hubClient(flags, io).call<BrokerAclView>(
        'GET',
        `/v1/broker/acl?format=${format}`,
      );
      io.stdout.write(text);
      for (const node of leftOut) {
        io.stderr.write(
          `tidepool-hub: ${node} is left out: a certificate’s common name has 64 characters at most, and this name is longer\n`,
        );
      }
    });
}
