/** What the pages' words mean and what to do: served by the gateway itself, since whoever is called at night may have nothing else. */
import type { ClientState } from '../monitor/client-status.ts';
import type { AnomalyRule } from '../ports/audit-sink.ts';
import { html, type Html } from './html.ts';
import { document, type Frame } from './layout.ts';
import { badge, STATES } from './words.ts';

/** What a thing means, and what to do about it. */
type Advice = readonly [meaning: Html, action: Html];

const STATE_HELP: Readonly<Record<ClientState, Advice>> = {
  attention: [
    html`An anomaly is open, the last scrub found something, a retention was not renewed, or 95 % of the quota is used.`,
    html`Open the client's page. It lists what is open and what to do. Once you know why it happened:
      <code>restic-gateway status NAME --acknowledge</code>.`,
  ],
  late: [
    html`No snapshot has arrived for longer than <code>expectEvery</code> in the config allows. Without it, for longer
      than is usual for this client.`,
    html`Look at the client: is it on, does its timer run, what does restic say?
      <code>restic-gateway sessions --client NAME</code> shows whether it connected, and what was refused. Only a new
      snapshot ends this state.`,
  ],
  never: [
    html`No snapshot has arrived since the audit log began, although the client may create some.`,
    html`On the client, run <code>restic init</code> once and then <code>restic backup</code>, with the SSH host that
      <code>restic-gateway client add</code> printed. The client's page has the commands. If it cannot connect,
      <code>ssh -v</code> on the client says how far it gets. A client that is not needed any more is removed by
      <code>restic-gateway client remove NAME</code>.`,
  ],
  ok: [html`Snapshots arrive as expected, and nothing is open.`, html`Nothing to do.`],
  disabled: [
    html`It is disabled in the config, or its keys have expired. It cannot connect, and nothing is expected of it.`,
    html`If it should back up again, <code>restic-gateway client enable NAME</code>, or set a later
      <code>expires</code>.`,
  ],
};

const RULE_HELP: Readonly<Record<AnomalyRule, Advice>> = {
  late: [html`The client's snapshot is overdue.`, html`See the state <a href="#state-late">Late</a>.`],
  'snapshot-burst': [
    html`More than 30 snapshots in an hour, or more than 100 in a day, and more than three times as many as ever in six
    weeks.`,
    html`Look for a timer or loop on the client that starts restic again and again. Whoever has its key may also be
      filling the list of snapshots, so that <code>forget</code> keeps the wrong ones: look at
      <code>restic-gateway restic NAME -- snapshots</code> before the next <code>forget</code>.`,
  ],
  'read-spike': [
    html`The client read half of its repository or more, and far more than on any day before.`,
    html`A restore of everything does that. If nobody restored, somebody copies the backups: disable the client, and
    change its key and its repository password.`,
  ],
  'new-address': [
    html`The client came from a network that it never used before, or its key was used from an address that
      <code>from</code> forbids.`,
    html`If it has not moved, its key may be stolen: <code>restic-gateway client disable NAME</code>, then give it a new
      key. <code>from</code> in the config limits where a key may be used.`,
  ],
  'new-key': [
    html`A client that has been known for a week used another of its keys for the first time.`,
    html`Fine if you added that key. If not, find out who can change the config.`,
  ],
  'denied-delete': [
    html`The client tried to remove backups, and was refused. Nothing is lost.`,
    html`Often somebody ran <code>restic forget --prune</code> on the client. Run it on the gateway host instead:
      <code>restic-gateway forget NAME</code>. If nobody did, somebody else is on that machine.`,
  ],
  overwrite: [
    html`The client sent other content under a name that exists already, and was refused. restic does not do that in a
    repository that is whole.`,
    html`Run <code>restic-gateway scrub NAME</code>. If it finds nothing, treat the client as broken into.`,
  ],
  'key-upload': [
    html`The client added a repository password, or tried to.`,
    html`If nobody ran <code>restic key add</code>, somebody wants to read the backups later: look at the client, and
      remove that password (<code>restic-gateway restic NAME -- key list</code>).`,
  ],
  'mass-removal': [
    html`Clients removed more than a third of the snapshots or bytes of a repository in a day, or two thirds in a week.`,
    html`While this is open, the trash keeps all of it. If it was not meant,
      <code>restic-gateway trash restore NAME --since 7d</code> brings it back. If it was, acknowledge it.`,
  ],
  'forged-time': [
    html`A snapshot claims to be from another time than the one at which it arrived.`,
    html`A wrong clock on the client does that. So does somebody who wants <code>forget</code> to keep forged snapshots
      and drop real ones. Set the clock; if it was right, look at that snapshot before you run <code>forget</code>.`,
  ],
  'probe-failed': [
    html`A check of <code>restic-gateway probe</code> did not hold: a client could do what it must not.`,
    html`Run <code>restic-gateway probe</code> by hand, and read what it prints: it names each check that failed. The
      clients of the probe need <code>role: probe</code>.`,
  ],
};

const COLUMN_HELP: readonly (readonly [string, Html])[] = [
  [
    'Last snapshot',
    html`The newest one that the client itself sent, by the gateway's clock. What the admin's restic rewrote does not
    count.`,
  ],
  [
    'Late after',
    html`From this time on the client is late, if no snapshot has arrived by then. Backups usually arrive well before.`,
  ],
  [
    'Size',
    html`What the repository holds. It is exact where a quota is counted. With <code>~</code>, it is estimated from what
      arrived. Where the audit log does not reach back to the beginning, it is what the last scrub counted:
      <code>restic-gateway scrub NAME</code>.`,
  ],
  [
    'Growth',
    html`The small plot shows 30 days, from zero. Where a few days are far above all others, the scale ends at the
    others, and a dashed line at the top marks what is cut off.`,
  ],
  ['Now', html`Sessions that are open on this host.`],
  ['Refused', html`Requests and sessions that were refused in the last 7 days. The client's page says why.`],
  [
    'Scrub',
    html`The last complete check of what is stored. <code>quick</code>: by sizes and checksums, without reading
      contents.`,
  ],
];

/** The text of the page. */
export function renderHelp(frame: Frame): string {
  return document({
    ...{ frame, title: 'Help', state: 'ok', root: './', refreshes: false },
    main: html`<div class="hero ok help"><h1>What this page says, and what to do</h1></div>
      <section class="help" aria-labelledby="states">
        <h2 id="states">States</h2>
        ${STATES.map((state) => entry(`state-${state}`, badge(state), STATE_HELP[state]))}
      </section>
      <section class="help" aria-labelledby="anomalies">
        <h2 id="anomalies">Anomalies</h2>
        <p>
          They are open until somebody acknowledges them, or for seven days after they were last seen.
          <code>mass-removal</code> stays until it is acknowledged.
        </p>
        ${Object.entries(RULE_HELP).map(([rule, advice]) => entry(rule, html`<span class="id">${rule}</span>`, advice))}
      </section>
      <section class="help" aria-labelledby="broken-into">
        <h2 id="broken-into">If a client was broken into</h2>
        <p>
          Whoever has its key can read its backups and add to them. What was there before is still there. On the gateway
          host:
        </p>
        <ol>
          <li><code>restic-gateway client disable NAME</code> ends its sessions and lets no new one begin.</li>
          <li>
            <code>restic-gateway sessions --client NAME --since 30d</code> shows since when. Choose the last time at
            which the client was certainly its own.
          </li>
          <li>
            <code>restic-gateway undo NAME --since TIME</code> shows what was added since then. The same with
            <code>--yes</code> moves it out of the repository, and prints how to bring it back.
          </li>
          <li>
            <code>restic-gateway trash list NAME</code> shows what was removed, if the client was allowed to, and for
            how long it can be brought back.
          </li>
          <li>
            Restore to a new machine, with a new key and a new repository password, and only then enable the client
            again.
          </li>
        </ol>
      </section>
      <section class="help" aria-labelledby="columns">
        <h2 id="columns">Columns</h2>
        <dl>
          ${COLUMN_HELP.map(
            ([title, words]) =>
              html`<dt>${title}</dt>
                <dd>${words}</dd>`,
          )}
        </dl>
      </section>
      <section class="help" aria-labelledby="more">
        <h2 id="more">More</h2>
        <p>
          On the gateway host, <code>restic-gateway --help</code> lists the commands,
          <code>restic-gateway COMMAND --help</code> explains one, and <code>restic-gateway check --live</code> tests
          the whole installation.
        </p>
      </section>`,
  });
}

function entry(id: string, title: Html, [meaning, action]: Advice): Html {
  return html`<div class="entry" id="${id}">
    <h3>${title}</h3>
    <p>${meaning}</p>
    <p>${action}</p>
  </div>`;
}
