import { Findings } from '../checks.ts';
import { digestReferenceOf, type Lab } from '../lab.ts';
import { settingsFlag, untilJoined, withDirectory } from './agent-parts.ts';
import { checkPulls, measureLan, pullOn } from './parts.ts';

const UPLINK_KBIT = 100_000;
/** Bytes a second that each host may send its neighbours: 16 Mbit/s. */
const CAP = 2e6;

/** A cap on what each host sends its neighbours: one holder gives at its rate, two give twice that. */
export async function lanCaps(lab: Lab): Promise<Findings> {
  return await withDirectory(async (directory) => {
    const findings = new Findings({ strict: lab.options.strict });
    const image = await lab.image('small');
    const pool = await lab.pool({
      hosts: 3,
      uplinkKbit: UPLINK_KBIT,
      extraFlags: [settingsFlag(directory, 'tuning: {lan: {upload: 16Mbit}}\n')],
    });
    await untilJoined(pool);
    const lan = await measureLan(pool, 50_000_000);
    const first = await pullOn(pool.host(0), image);
    await pool.setUplink('down');
    // By digest: nobody has to find out first that the registry cannot be asked for the tag.
    const reference = digestReferenceOf(image);
    const second = await pullOn(pool.host(1), image, { reference });
    const third = await pullOn(pool.host(2), image, { reference });
    await checkPulls(findings, 'with a cap', [first, second, third], image);
    const rateOf = (seconds: number | undefined): number =>
      image.bytes / (seconds ?? Number.POSITIVE_INFINITY) / CAP;
    const rates = [rateOf(second.wholeSeconds), rateOf(third.wholeSeconds)];
    findings.add({
      lan,
      cap: CAP,
      ratesInCaps: rates,
      seconds: [first.seconds, second.seconds, third.seconds],
    });
    const [one = 0, two = 0] = rates;
    findings.atMost('rate from one holder, in caps', one, { strict: 1.05, loose: 1.15 });
    findings.atLeast('rate from one holder, in caps, is used', one, { strict: 0.8, loose: 0.2 });
    findings.atMost('rate from two holders, in caps', two, { strict: 2.1, loose: 2.3 });
    findings.atLeast('two holders give more than one', two / one, { strict: 1.3, loose: 0.9 });
    findings.atLeast('the LAN itself, in caps', lan / CAP, { strict: 20, loose: 2 });
    return findings;
  });
}
