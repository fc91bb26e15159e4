//! `postroom store deploy` and what follows it, through the admin API of a running node.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use postroom_core::deploy::{Ended, Schema, Step, Sweep, Version};

use super::args::{Deploy, Forget, NodeDoor, Rollout};
use super::output::Output;
use super::remote::{Remote, Silence};
use crate::front::admin::stores::{Begun, Plan, StoreStatus};
use crate::guest;

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Accounts that a sweep could not bring over and that are named; more are counted.
const MAX_FAILED_SHOWN: usize = 10;
/// How `--to` and friends are named in queries.
pub(super) const STORE: &str = "store";

/// `postroom store deploy`.
pub fn deploy(args: &Deploy, output: &Output) -> Result<()> {
    let file = args.file.display().to_string();
    let octets = std::fs::read(&args.file).with_context(|| format!("cannot read {file}"))?;
    // What is no component is not sent, and is refused by its name.
    guest::inspect(&octets).with_context(|| file.clone())?;
    let signature = guest::signature_beside(&args.file).with_context(|| file.clone())?;
    roll_out(&args.to, &file, Some((octets, signature)), &args.how, output)
}

/// `postroom store forget`.
pub fn forget(args: &Forget, output: &Output) -> Result<()> {
    let store = &args.store;
    roll_out(store, &format!("the configuration of store {store}"), None, &args.how, output)
}

/// Plans, asks, begins and follows a deployment of a file with its signature, or of what the configuration
/// names.
fn roll_out(
    store: &str,
    from: &str,
    file: Option<(Vec<u8>, Option<String>)>,
    args: &Rollout,
    output: &Output,
) -> Result<()> {
    let remote = Remote::of(&args.door)?;
    let probation = args.probation.as_secs().to_string();
    let mut query = vec![(STORE, store), ("probation_s", probation.as_str())];
    query.extend(args.canary.as_ref().map(|node| ("canary", node.as_str())));
    let configured = file.is_none();
    let (octets, signature) = file.unwrap_or_default();
    query.extend(signature.as_ref().map(|text| ("signature", text.as_str())));
    if args.no_rollback {
        query.push(("no_rollback", "true"));
    }
    if configured {
        query.push(("configured", "true"));
    }
    let shown = |plan: &Plan| shown(plan, configured);
    let not_taken = || format!("{from} was not taken");
    let plan: Plan =
        remote.post_octets("/v1/stores/plan", &query, octets.clone()).with_context(not_taken)?;
    if args.plan {
        output.result(&plan, || shown(&plan))?;
        ensure!(plan.refused.is_none(), "it would be refused");
        return Ok(());
    }
    if let Some(why) = &plan.refused {
        bail!("{from}: {why}");
    }
    if configured {
        output.warn(&shown(&plan));
    }
    if !plan.asks_more.is_empty() && !args.yes {
        if !configured {
            output.warn(&shown(&plan));
        }
        agreed()?;
    }
    let begun: Begun =
        remote.post_octets("/v1/stores/deploy", &query, octets).with_context(not_taken)?;
    if !args.watch {
        return output.result(&begun, || {
            format!(
                "deployment {} of {} to store {} has begun; `postroom store status --watch` shows how it goes",
                begun.number, plan.to.label, store
            )
        });
    }
    let ended = followed(&remote, store, begun.number, output)?;
    let why = ended.outcome.why().map(str::to_owned);
    output.result(&ended, || {
        let outcome = ended.outcome.name();
        format!("deployment {}: {} is {outcome}", ended.number, ended.version.label)
    })?;
    match why {
        None => Ok(()),
        Some(why) => bail!("{} was {}: {why}", plan.to.label, ended.outcome.name()),
    }
}

fn agreed() -> Result<()> {
    ensure!(
        std::io::stdin().is_terminal(),
        "it asks for more than the version before it: look at it with --plan, and say --yes"
    );
    eprint!("go on? [y/N] ");
    std::io::stderr().flush().context("the terminal")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("the terminal")?;
    ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was deployed");
    Ok(())
}

fn shown(plan: &Plan, configured: bool) -> String {
    let mut lines = vec![format!("store {}: {} -> {}", plan.store, plan.from.label, plan.to.label)];
    lines.push(format!("  digest   {} -> {}", plan.from.short(), plan.to.short()));
    lines.extend(plan.signed.iter().map(|by| format!("  {}", by.shown())));
    let (from, to) = (written(&plan.from), written(&plan.to));
    lines.push(format!("  schema   {from} -> {to}"));
    lines.push(format!("  rows     have {}", plan.rows.shown()));
    let writes = plan.to.schema.writes;
    lines.push(match plan.way_back {
        true if writes != plan.rows.writes => format!(
            "  writes schema {} until it is permanent, then {writes}; a sweep brings the rest to it, and then there is no way back",
            plan.rows.writes
        ),
        true => "  can be rolled back until it is permanent".to_owned(),
        false => "  cannot be rolled back: it is permanent as soon as all nodes have it ready".to_owned(),
    });
    if configured {
        let text = "  is what the configuration names; once it is permanent no deployment stands over that";
        lines.push(text.to_owned());
        if plan.from.digest == plan.to.digest {
            lines.push("  serves already: only the record changes".to_owned());
        }
    }
    lines.extend(plan.asks_more.iter().map(|asked| format!("  asks for + {asked}")));
    lines.extend(plan.asks_less.iter().map(|asked| format!("  asks for - {asked}")));
    if plan.asks_more.is_empty() && plan.asks_less.is_empty() {
        lines.push("  asks for the same as before".to_owned());
    }
    lines.extend(plan.refused.iter().map(|why| format!("  refused: {why}")));
    lines.join("\n")
}

fn written(version: &Version) -> String {
    let Schema { reads, writes, writes_from } = version.schema;
    let writes = match writes_from.filter(|from| *from != writes) {
        None => writes.to_string(),
        Some(from) => format!("{from} to {writes}"),
    };
    format!("writes {writes} (reads {} to {})", reads.0, reads.1)
}

/// Says each step of a deployment as it comes, until it has ended.
fn followed(remote: &Remote, store: &str, number: u64, output: &Output) -> Result<Ended> {
    let (mut steps, mut nodes, mut silence) = (0, Vec::new(), Silence::default());
    loop {
        let status = match one(remote, store) {
            Ok(status) => status,
            // The deployment goes on whether the node can say so or not.
            Err(_) if silence.is_bearable() => {
                std::thread::sleep(WATCH_EVERY);
                continue;
            }
            Err(error) => {
                return Err(error.context(format!(
                    "deployment {number} goes on, but this node does not say how; see `postroom store history`"
                )));
            }
        };
        silence.ends();
        let ended = status.history.iter().find(|ended| ended.number == number);
        let taken = match (&status.under_way, ended) {
            (_, Some(ended)) => ended.steps.as_slice(),
            (Some(under_way), None) if under_way.number == number => under_way.steps.as_slice(),
            _ => bail!("deployment {number} is not in the record any more"),
        };
        taken.iter().skip(steps).for_each(|step| output.warn(&stepped(step)));
        steps = taken.len();
        let said: Vec<_> =
            status.nodes.iter().map(|node| (node.node.clone(), node.progress.clone())).collect();
        if said != nodes && ended.is_none() {
            let shown: Vec<_> = said.iter().map(|(node, is)| format!("{node} {is}")).collect();
            output.warn(&format!("  {}", shown.join(", ")));
            nodes = said;
        }
        if let Some(ended) = ended {
            return Ok(ended.clone());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn stepped(step: &Step) -> String {
    format!("{} {}: {}", utc(step.at), step.node, step.what)
}

/// A time as people read it.
fn utc(seconds: i64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(seconds);
    let format =
        time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    time.ok().and_then(|time| time.format(format).ok()).unwrap_or_else(|| seconds.to_string())
}

fn all(remote: &Remote, store: Option<&str>) -> Result<Vec<StoreStatus>> {
    let mut all: Vec<StoreStatus> = remote.get("/v1/stores", &[])?;
    if let Some(store) = store {
        let names: Vec<_> = all.iter().map(|status| status.store.clone()).collect();
        all.retain(|status| status.store == store);
        ensure!(!all.is_empty(), "there is no store {store}: this node has {}", names.join(", "));
    }
    Ok(all)
}

fn one(remote: &Remote, store: &str) -> Result<StoreStatus> {
    all(remote, Some(store))?.pop().context("the node names no store")
}

/// `postroom store status`.
pub fn status(store: Option<&str>, watch: bool, door: &NodeDoor, output: &Output) -> Result<()> {
    let remote = Remote::of(door)?;
    loop {
        let stores = all(&remote, store)?;
        if watch {
            output.again();
        }
        output.result(&stores, || stores.iter().map(described).collect::<Vec<_>>().join("\n"))?;
        if !watch {
            return Ok(());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn described(status: &StoreStatus) -> String {
    let mut lines = vec![format!(
        "store {}: {} ({}) is permanent",
        status.store,
        status.permanent.label,
        status.permanent.short()
    )];
    if let Some(under_way) = &status.under_way {
        lines.push(format!(
            "  deployment {}: {} ({}), {}, watched for {} s",
            under_way.number,
            under_way.version.label,
            under_way.version.short(),
            under_way.phase.name(),
            under_way.probation_s
        ));
    }
    for node in &status.nodes {
        let why = node.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
        lines.push(format!(
            "    {} {}, {} calls, {} failed{why}",
            node.node, node.progress, node.calls, node.failures
        ));
    }
    for generation in &status.generations {
        let is = match (generation.serves, generation.tentative) {
            (true, true) => "serves, tentative",
            (true, false) => "serves",
            (false, _) => "kept at hand",
        };
        lines.push(format!(
            "  on {}: {} ({}) {is}, {} instances, {} calls now",
            status.here,
            generation.version.label,
            generation.version.short(),
            generation.instances,
            generation.calls
        ));
    }
    lines.push(format!("  rows have {}, {} is written", status.rows.shown(), status.rows.writes));
    if let Some(sweep) = &status.sweep {
        lines.extend(swept(sweep));
    }
    if !status.waits_for.is_empty() {
        lines.push(format!("    another schema waits for {}", status.waits_for.join(", ")));
    }
    lines.extend(status.trouble.iter().map(|why| format!("  {} cannot go on: {why}", status.here)));
    lines.join("\n")
}

/// How far a sweep is.
fn swept(sweep: &Sweep) -> Vec<String> {
    let Sweep { node, accounts, of, records, rewritten, failures, done, .. } = sweep;
    // Accounts that have come since are swept too.
    let of = of.max(accounts);
    let is = if *done { "has brought" } else { "brings" };
    let mut lines = vec![format!(
        "    {node} {is} the rest to it: {accounts} of {of} accounts, {records} records looked at, {rewritten} rows written"
    )];
    let shown = sweep.failed.iter().take(MAX_FAILED_SHOWN);
    lines.extend(shown.map(|failed| {
        let account = failed.account.as_deref().unwrap_or("the directory");
        format!("      {account}: {}", failed.why)
    }));
    if *failures > 0 {
        lines.push(format!("      {failures} in all are tried again; `postroom check` says more"));
    }
    lines
}

/// `postroom store commit`.
pub fn commit(store: &str, door: &NodeDoor, output: &Output) -> Result<()> {
    Remote::of(door)?.post_to::<()>("/v1/stores/commit", &[(STORE, store)])?;
    output.result(&serde_json::json!({ "store": store, "committed": true }), || {
        format!("what was on probation as store {store} is permanent")
    })
}

/// `postroom store rollback`.
pub fn roll_back(store: &str, door: &NodeDoor, output: &Output) -> Result<()> {
    Remote::of(door)?.post_to::<()>("/v1/stores/rollback", &[(STORE, store)])?;
    output.result(&serde_json::json!({ "store": store, "rolled_back": true }), || {
        format!("the version before serves as store {store} again")
    })
}

/// `postroom store history`.
pub fn history(store: Option<&str>, door: &NodeDoor, output: &Output) -> Result<()> {
    let stores = all(&Remote::of(door)?, store)?;
    let ended: Vec<_> = stores
        .into_iter()
        .flat_map(|status| {
            status.history.into_iter().map(move |ended| (status.store.clone(), ended))
        })
        .collect();
    output.result(&ended, || match ended.is_empty() {
        true => "no deployment has ended".to_owned(),
        false => {
            ended.iter().map(|(store, ended)| told(store, ended)).collect::<Vec<_>>().join("\n")
        }
    })
}

fn told(store: &str, ended: &Ended) -> String {
    let why = ended.outcome.why().map_or(String::new(), |why| format!(": {why}"));
    let mut lines = vec![format!(
        "{store} {}: {} ({}) {}{why}",
        ended.number,
        ended.version.label,
        ended.version.short(),
        ended.outcome.name()
    )];
    lines.extend(ended.steps.iter().map(|step| format!("    {}", stepped(step))));
    lines.join("\n")
}

/// A duration as people write it: `90`, `90s`, `10m`, `2h`, `1d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err("a duration is a number and s, m, h or d: 90s, 10m".to_owned()),
    };
    let number: u64 =
        digits.parse().map_err(|_| "a duration begins with a number: 10m".to_owned())?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}
