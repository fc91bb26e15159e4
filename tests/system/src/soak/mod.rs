//! The soak: clients on all nodes of a real cluster under constant load, while nodes, links and PostgreSQL are
//! disturbed. Then what was acknowledged is held against what is there. `cargo xtask soak` runs it for as long
//! as one likes, and the tests for some seconds.

pub mod client;
pub mod disturb;
pub mod fault;
pub mod ledger;
pub mod load;
pub mod reader;
pub mod report;
pub mod view;
pub mod waits;
pub mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::{LocalCluster, PASSWORD};
use crate::eventually::within;
use crate::{ImapClient, Random};
use client::{Client, INBOX, WORK, found};
use disturb::Disturber;
use fault::Fault;
use ledger::{Count, Found};
use load::{Load, Now};
use report::{Progress, Report};

/// By when every client must have been served after a disturbance is over: as long as a call may wait.
const SETTLED: Duration = Duration::from_secs(75);
/// How long the cluster has to become ready, and each account to be known everywhere.
const READY: Duration = Duration::from_secs(60);

/// What a soak is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of all choices.
    pub seed: u64,
    /// How long disturbances go on.
    pub time: Duration,
    /// How many nodes; at least two.
    pub nodes: usize,
    /// How many accounts.
    pub accounts: usize,
    /// On each node, who write. One more idles.
    pub writers: usize,
    /// What is done.
    pub faults: Vec<Fault>,
    /// What nodes log: `log.filter` of their configuration.
    pub log: String,
    /// Where data, logs and the list of events go.
    pub folder: PathBuf,
}

/// Runs it. `interrupted` ends it early, with the check of what there is; `progress` is told all the time.
///
/// # Errors
/// When the cluster cannot be started or looked at; what is wrong with it otherwise is in the report.
pub fn run(
    options: &Options,
    interrupted: &AtomicBool,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Result<Report> {
    let mut cluster =
        LocalCluster::start_with_proxies(&options.folder, options.nodes, &options.log)?;
    let accounts: Vec<String> = (0..options.accounts).map(|n| format!("user{n}")).collect();
    prepare(&cluster, &accounts)?;
    let each = options.writers + 1;
    let doors = cluster.nodes.iter().map(|node| (node.imap, node.lmtp)).collect();
    let events = options.folder.join("events.log");
    let load = Load::new(doors, accounts, options.nodes * each, &events)?;
    let mut random = Random(options.seed);
    let faults = std::thread::scope(|scope| {
        for node in 0..options.nodes {
            for number in 0..each {
                let letter = &cluster.nodes[node].name;
                let name = format!("{letter}{}{number}", if number == 0 { 'i' } else { 'w' });
                let own = Random(random.bits());
                let mut client = Client::new(&load, node * each + number, name, node, own);
                scope.spawn(move || {
                    let mut own = writer::Own::default();
                    client.lives(|client| match number {
                        0 => reader::life(client),
                        _ => writer::life(client, &mut own),
                    });
                });
            }
        }
        scope.spawn(|| report::tell(&load, progress));
        let choices = Random(random.bits());
        let mut disturber = Disturber { cluster: &mut cluster, load: &load, random: choices };
        // Clients end whatever happens here, a panic too.
        let _over = Over(&load);
        disturb(options, interrupted, &mut disturber)
    });
    report(options, &cluster, &load, faults)
}

/// Ends the clients.
struct Over<'a>(&'a Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

fn prepare(cluster: &LocalCluster, accounts: &[String]) -> Result<()> {
    for account in accounts {
        cluster.add_user(account)?;
        for node in &cluster.nodes {
            let known = || ImapClient::log_in(node.imap, account, PASSWORD).ok();
            let mut client = within(READY, known).context("an account is not known everywhere")?;
            if node.name == cluster.nodes[0].name {
                client.command(&format!("CREATE {WORK}"))?;
            }
        }
    }
    Ok(())
}

/// One disturbance after the other: all kinds, in an order of the seed's, then again.
fn disturb(
    options: &Options,
    interrupted: &AtomicBool,
    disturber: &mut Disturber,
) -> BTreeMap<Fault, u32> {
    let (load, began) = (disturber.load, Instant::now());
    let is_over = || began.elapsed() >= options.time || interrupted.load(Ordering::Relaxed);
    let (mut done, mut round) = (BTreeMap::new(), Vec::new());
    settle(load, Fault::Calm);
    while !is_over() {
        if round.is_empty() {
            round = options.faults.clone();
        }
        if round.is_empty() {
            let _ = within(options.time, || is_over().then_some(()));
            break;
        }
        let fault = round.swap_remove(disturber.random.below(round.len() as u64) as usize);
        *done.entry(fault).or_default() += 1;
        load.note_for(fault, |met| met.times += 1);
        if let Err(error) = disturber.disturb(fault) {
            load.wrong_with_all(format!("{error:#}"));
        }
        if !settle(load, fault) {
            break;
        }
        // Some calm between two.
        let calm = Duration::from_millis(500 + disturber.random.below(2_000));
        let _ = within(calm, || is_over().then_some(()));
    }
    done
}

/// Waits until every client has been served; false: that does not happen.
fn settle(load: &Load, fault: Fault) -> bool {
    let (since, began) = (load.clock(), Instant::now());
    let mut last = Vec::new();
    let served = within(SETTLED, || match load.unserved_since(since) {
        late if late.is_empty() => Some(()),
        late => {
            last = late;
            None
        }
    });
    let (took, after) = (began.elapsed(), fault.name());
    load.note_for(fault, |met| met.settled.add(took));
    load.event(&format!("all are served, {took:.1?} after {after}, the last ones {last:?}"));
    load.set_now(Now { fault: Fault::Calm, node: None });
    if served.is_none() {
        let clients = load.unserved_since(since);
        let after = fault.name();
        load.wrong_with_all(format!(
            "clients {clients:?} are not served {SETTLED:?} after {after}"
        ));
    }
    served.is_some()
}

fn report(
    options: &Options,
    cluster: &LocalCluster,
    load: &Load,
    faults: BTreeMap<Fault, u32>,
) -> Result<Report> {
    let (mut count, mut wrong) = (Count::default(), load.take_wrong());
    for (number, account) in load.accounts.iter().enumerate() {
        // Whatever node is asked, it is the same.
        let node = &cluster.nodes[number % cluster.nodes.len()];
        let there = present(node.imap, account)
            .with_context(|| format!("what {account} has cannot be read at node {}", node.name))?;
        let (found, sentences) = load.ledger(number).check(&there);
        wrong.extend(sentences.into_iter().map(|sentence| format!("{account}: {sentence}")));
        count.add(found);
    }
    for node in &cluster.nodes {
        wrong.extend(report::panics(node));
    }
    Ok(Report::new(options, load, faults, count, wrong))
}

/// All messages of an account.
fn present(address: std::net::SocketAddr, account: &str) -> Result<Vec<Found>> {
    let mut client = within(READY, || ImapClient::log_in(address, account, PASSWORD).ok())
        .context("nobody can log in")?;
    let mut all = Vec::new();
    for mailbox in [INBOX, WORK] {
        let mut ask = |command: &str| {
            let answer = client.command(command)?;
            anyhow::ensure!(answer.is_ok(), "{command}: {}", answer.tagged);
            Ok(answer.lines())
        };
        let _ = ask(&format!("SELECT {mailbox}"))?;
        let fields = format!("BODY.PEEK[HEADER.FIELDS ({})]", client::FIELD);
        for line in ask(&format!("UID FETCH 1:* (FLAGS {fields})"))? {
            match found(mailbox, &line) {
                Some(found) => all.push(found),
                None => anyhow::ensure!(!line.contains(" FETCH "), "a message of nobody: {line}"),
            }
        }
    }
    Ok(all)
}
