//! The soak: clients on all nodes of a real cluster under constant load, while nodes, links and PostgreSQL are
//! disturbed. Then what was acknowledged is held against what is there. `cargo xtask soak` runs it for as long
//! as one likes, and the tests for some seconds.

pub mod client;
pub mod disturb;
pub mod fault;
pub mod ledger;
pub mod load;
pub mod memory;
pub mod reader;
pub mod report;
pub mod swap;
pub mod told;
pub mod versions;
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
use swap::Trials;
use versions::Versions;

/// By when every client must have been served after a disturbance is over: as long as a call may wait.
const SETTLED: Duration = Duration::from_secs(75);
/// How long the cluster has to become ready, and each account to be known everywhere.
const READY: Duration = Duration::from_secs(60);

/// Calm after a swap, of the time that it took; waiting until all clients were served comes on top.
const CALM_SHARE: f64 = 0.5;

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
    /// On each node, who write.
    pub writers: usize,
    /// On each node, who idle.
    pub idlers: usize,
    /// Least time from one request of a client to its next, on average; none: zero.
    pub pace: Duration,
    /// After so many versions of the store component that have become permanent it is over, too.
    pub swaps: Option<u32>,
    /// After so many times all kinds it is over, too.
    pub rounds: Option<u32>,
    /// What is done.
    pub faults: Vec<Fault>,
    /// What nodes log: `log.filter` of their configuration.
    pub log: String,
    /// Where data, logs and the list of events go.
    pub folder: PathBuf,
}

/// What tests run: three nodes, three accounts, three clients on each node. The report of a run that
/// was sound.
///
/// # Panics
/// When something is wrong, or the cluster cannot be run; says where logs and events stay.
pub fn small(change: impl FnOnce(Options) -> Options) -> Report {
    let folder = crate::scratch();
    let options = change(Options {
        seed: 1,
        time: Duration::ZERO,
        nodes: 3,
        accounts: 3,
        writers: 2,
        idlers: 1,
        pace: Duration::ZERO,
        swaps: None,
        rounds: None,
        faults: Vec::new(),
        log: "info".to_owned(),
        folder: folder.path().to_owned(),
    });
    let never = AtomicBool::new(false);
    let report = run(&options, &never, &|_| {}).expect("the cluster can be run and read");
    println!("{}", report.text());
    if !report.is_sound() {
        println!("logs and events stay in {}", folder.keep().display());
    }
    assert!(report.is_sound(), "{:#?}", report.wrong);
    report
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
    let versions = Versions::build(&options.folder)?;
    let Options { folder, nodes, log, .. } = options;
    let mut cluster = LocalCluster::start_with_proxies(folder, *nodes, log, &versions.tables())?;
    let accounts: Vec<String> = (0..options.accounts).map(|n| format!("user{n}")).collect();
    prepare(&cluster, &accounts)?;
    let each = options.writers + options.idlers;
    let doors = cluster.nodes.iter().map(|node| (node.imap, node.lmtp)).collect();
    let events = options.folder.join("events.log");
    let load = Load::new(doors, accounts, options.nodes * each, &events)?;
    let mut random = Random(options.seed);
    let (faults, trials) = std::thread::scope(|scope| {
        for node in 0..options.nodes {
            for number in 0..each {
                let (letter, idles) = (&cluster.nodes[node].name, number < options.idlers);
                let name = format!("{letter}{}{number}", if idles { 'i' } else { 'w' });
                let own = Random(random.bits());
                let mut client = Client::new(&load, node * each + number, name, node, own);
                client.pace = options.pace;
                scope.spawn(move || {
                    let mut own = writer::Own::default();
                    client.lives(|client| match idles {
                        true => reader::life(client),
                        false => writer::life(client, &mut own),
                    });
                });
            }
        }
        scope.spawn(|| report::tell(&load, progress));
        let choices = Random(random.bits());
        let mut disturber = Disturber {
            cluster: &mut cluster,
            load: &load,
            random: choices,
            versions,
            trials: Trials::default(),
            kills: 0,
        };
        // Clients end whatever happens here, a panic too.
        let _over = Over(&load);
        let faults = disturb(options, interrupted, &mut disturber);
        (faults, disturber.trials)
    });
    report(options, &cluster, &load, (faults, trials))
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
    let (mut done, mut round, mut rounds) = (BTreeMap::new(), Vec::new(), 0);
    settle(load, Fault::Calm);
    disturber.remember(0);
    while !is_over() && options.swaps.is_none_or(|swaps| disturber.trials.permanent < swaps) {
        if round.is_empty() {
            if options.rounds == Some(rounds) {
                break;
            }
            rounds += 1;
            round = options.faults.clone();
        }
        if round.is_empty() {
            let _ = within(options.time, || is_over().then_some(()));
            break;
        }
        let fault = round.swap_remove(disturber.random.below(round.len() as u64) as usize);
        *done.entry(fault).or_default() += 1;
        load.note_for(fault, |met| met.times += 1);
        let since = Instant::now();
        if let Err(error) = disturber.disturb(fault) {
            load.wrong_with_all(format!("{error:#}"));
        }
        let took = since.elapsed();
        if fault.is_silent() {
            // What is waited for from here on has nothing to do with it.
            load.set_now(Now { fault: Fault::Calm, node: None });
        }
        if !settle(load, fault) {
            break;
        }
        // Some calm between two; beside a swap as much as it took, so that both can be compared.
        let some = Duration::from_millis(500 + disturber.random.below(2_000));
        let calm = if fault == Fault::Swap { some.max(took.mul_f64(CALM_SHARE)) } else { some };
        let _ = within(calm, || is_over().then_some(()));
    }
    disturber.remember_at_the_end();
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
    done: (BTreeMap<Fault, u32>, Trials),
) -> Result<Report> {
    let (mut count, mut wrong) = (Count::default(), load.take_wrong());
    for (number, account) in load.accounts.iter().enumerate() {
        // Whatever node is asked, it is the same.
        let node = &cluster.nodes[number % cluster.nodes.len()];
        let there = match present(node.imap, account) {
            Ok(there) => there,
            Err(error) => {
                let at = &node.name;
                wrong.push(format!("what {account} has cannot be read at node {at}: {error:#}"));
                continue;
            }
        };
        let (found, sentences) = load.ledger(number).check(&there);
        wrong.extend(sentences.into_iter().map(|sentence| format!("{account}: {sentence}")));
        count.add(found);
    }
    for node in &cluster.nodes {
        wrong.extend(report::panics(node));
    }
    Ok(Report::new(options, load, done, count, wrong))
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
