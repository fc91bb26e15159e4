//! Suite `cluster`: what it costs that a mailbox is open on another node, how soon the others see a change, and
//! how long clients wait when the owner is killed or drains.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use postroom_system::cluster::{LocalCluster, PASSWORD};
use postroom_system::{eventually, scratch};

use crate::client::Client;
use crate::machine;
use crate::mail;
use crate::report::{Cell, Goal, Samples, Table, progress};
use crate::rounds::Pace;

const SUITE: &str = "cluster";
const NODES: usize = 3;
const USER: &str = "anna";
/// Octets of the large message.
const LARGE: usize = 1 << 20;
/// Samples of "how soon" that are enough.
const SAMPLES: usize = 1_000;
/// Fewest rounds of kills and drains: one says nothing of a longest wait.
const FEWEST_ROUNDS: usize = 5;

struct Bench {
    cluster: LocalCluster,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn start() -> anyhow::Result<Self> {
        let folder = scratch();
        progress(format_args!("{NODES} nodes over a private PostgreSQL"));
        let cluster = LocalCluster::start(folder.path(), NODES)?;
        cluster.add_user(USER)?;
        let bench = Self { cluster, _folder: folder };
        bench.whole();
        Ok(bench)
    }

    /// Waits until every node hears all.
    fn whole(&self) {
        for node in &self.cluster.nodes {
            eventually("all nodes are heard", || {
                let lines = node.command(&["cluster", "status"], "").ok()?;
                (lines.iter().filter(|line| line["state"] == "up").count() == NODES).then_some(())
            });
        }
    }

    fn client(&self, node: usize) -> Client {
        let imap = self.cluster.nodes[node].imap;
        // A user that was made on another node is seen here within seconds.
        eventually("log in", || Client::log_in(imap, USER, PASSWORD).ok())
    }

    fn selected(&self, node: usize) -> anyhow::Result<Client> {
        let mut client = self.client(node);
        client.command("SELECT INBOX")?;
        Ok(client)
    }

    /// Which node has the mailboxes open.
    fn owner(&self, asked: usize) -> anyhow::Result<usize> {
        let place = self.cluster.nodes[asked].command(&["mailbox", "where", "--user", USER], "")?;
        let name = place.first().and_then(|line| line["node"].as_str()).context("nobody has it")?;
        let found = self.cluster.nodes.iter().position(|node| node.name == name);
        found.context("an unknown node")
    }

    /// Time on a processor of all nodes, without the database.
    fn processor_time(&self) -> Duration {
        let pids = self.cluster.nodes.iter().filter_map(|node| node.pid());
        pids.map(|pid| machine::processor_time(pid).unwrap_or_default()).sum()
    }
}

/// All of the suite.
pub fn run(pace: Pace) -> anyhow::Result<Vec<Table>> {
    let mut bench = Bench::start()?;
    let there = there_and_here(&bench, pace)?;
    let soon = how_soon(&bench, pace)?;
    let waits = waits(&mut bench, pace)?;
    Ok(vec![there, soon, waits])
}

/// One operation, repeated on one connection.
#[derive(Default)]
struct Measured {
    /// Of one call, in milliseconds.
    p50: Samples,
    p99: Samples,
    /// Of all nodes, for one call, in microseconds.
    processor: Samples,
}

fn there_and_here(bench: &Bench, pace: Pace) -> anyhow::Result<Table> {
    let heads = [
        "operation",
        "at the owner p50",
        "at another node p50",
        "more",
        "goal",
        "p99 at the owner",
        "p99 at another",
        "processor at the owner",
        "processor at another",
    ];
    let mut table = Table::new(SUITE, "One connection at the owner, and at another node", &heads);
    let mut clients = [bench.selected(0)?, bench.selected(1)?];
    ensure!(bench.owner(0)? == 0, "the first to select is the owner");
    clients[0].append("INBOX", &mail::message(0))?;
    let large = [b"Subject: large\r\n\r\n", &[b'x'; LARGE][..], b"\r\n"].concat();
    clients[0].append("INBOX", &large)?;
    clients.iter_mut().try_for_each(|client| client.command("NOOP").map(drop))?;
    let small = mail::message(1);
    type Operation<'a> = (&'a str, Option<Goal>, &'a dyn Fn(&mut Client) -> anyhow::Result<()>);
    let operations: [Operation<'_>; 5] = [
        ("STATUS", Some(Goal::AtMost(0.1, "ms")), &|client| {
            client.command("STATUS INBOX (MESSAGES)").map(drop)
        }),
        ("NOOP (validates the claim)", None, &|client| client.command("NOOP").map(drop)),
        ("FETCH of 4 KiB", None, &|client| client.command("UID FETCH 1 (BODY.PEEK[])").map(drop)),
        ("FETCH of 1 MiB", None, &|client| client.command("UID FETCH 2 (BODY.PEEK[])").map(drop)),
        ("APPEND of 4 KiB", None, &|client| client.append("Sent", &small)),
    ];
    clients[0].command("CREATE Sent")?;
    for (name, goal, operation) in operations {
        let mut sides: Vec<(&mut Client, Measured)> =
            clients.iter_mut().map(|client| (client, Measured::default())).collect();
        pace.interleave(name, &mut sides, |(client, measured)| {
            let (began, before) = (Instant::now(), bench.processor_time());
            let mut times = Samples::default();
            while times.0.is_empty() || began.elapsed() < pace.time {
                let one = Instant::now();
                operation(client)?;
                times.0.push(one.elapsed().as_secs_f64() * 1e3);
            }
            let spent = bench.processor_time().saturating_sub(before).as_secs_f64() * 1e6;
            measured.processor.0.push(spent / times.0.len() as f64);
            measured.p50.0.extend(times.quantile(0.5));
            measured.p99.0.extend(times.quantile(0.99));
            Ok(())
        })?;
        let [(_, here), (_, there)] = &sides[..] else { unreachable!("two clients") };
        let more: Samples = there.p50.0.iter().zip(&here.p50.0).map(|(t, h)| t - h).collect();
        table.row(vec![
            Cell::text(name),
            Cell::Figure(here.p50.clone(), "ms"),
            Cell::Figure(there.p50.clone(), "ms"),
            Cell::Figure(more.clone(), "ms"),
            Cell::goal(goal, &more),
            Cell::Figure(here.p99.clone(), "ms"),
            Cell::Figure(there.p99.clone(), "ms"),
            Cell::Figure(here.processor.clone(), "µs"),
            Cell::Figure(there.processor.clone(), "µs"),
        ]);
    }
    table.note("processor: of all nodes, for one operation, without the database");
    table.note(
        "STATUS reads what the owner has in memory: what it costs more is one call over the link",
    );
    Ok(table)
}

fn how_soon(bench: &Bench, pace: Pace) -> anyhow::Result<Table> {
    let heads = ["append at, seen in IDLE at", "p50", "p99", "goal", "samples"];
    let mut table = Table::new(SUITE, "From the OK of an APPEND to EXISTS", &heads);
    let owner = bench.owner(0)?;
    let (other, third) = ((owner + 1) % NODES, (owner + 2) % NODES);
    for (name, writer, watcher) in [
        ("owner, owner", owner, owner),
        ("owner, another", owner, other),
        ("another, owner", other, owner),
        ("another, a third", other, third),
    ] {
        let mut watcher = bench.selected(watcher)?;
        watcher.idle()?;
        let mut writer = bench.client(writer);
        let body = mail::message(0);
        let (began, mut times) = (Instant::now(), Samples::default());
        let time = pace.time * pace.rounds as u32;
        while times.0.len() < 10 || (times.0.len() < SAMPLES && began.elapsed() < time) {
            writer.append("INBOX", &body)?;
            let acknowledged = Instant::now();
            watcher.exists()?;
            times.0.push(acknowledged.elapsed().as_secs_f64() * 1e3);
        }
        let quantile = |share| times.quantile(share).unwrap_or_default();
        table.row(vec![
            Cell::text(name),
            Cell::figure(quantile(0.5), "ms"),
            Cell::figure(quantile(0.99), "ms"),
            Cell::goal(Some(Goal::AtMost(3.0, "ms")), &Samples::one(quantile(0.5))),
            Cell::text(times.0.len().to_string()),
        ]);
    }
    table.note("one client writes, another idles; a change that is told before the OK counts as soon as it is read");
    Ok(table)
}

/// A client of another node waits for its APPEND while the owner goes.
fn waits(bench: &mut Bench, pace: Pace) -> anyhow::Result<Table> {
    let heads = ["what is done to the owner", "median", "longest", "goal", "rounds"];
    let mut table = Table::new(SUITE, "How long an APPEND on another node takes", &heads);
    let rounds = pace.rounds.max(FEWEST_ROUNDS);
    let mut killed = Samples::default();
    for round in 1..=rounds {
        progress(format_args!("kill -9 of the owner: round {round} of {rounds}"));
        let (mut client, owner) = ready(bench)?;
        let began = Instant::now();
        bench.cluster.nodes[owner].kill();
        client.append("INBOX", &mail::message(0))?;
        killed.0.push(began.elapsed().as_secs_f64() * 1e3);
        bench.cluster.nodes[owner].start()?;
        bench.whole();
    }
    wait_row(&mut table, "kill -9", 1_000.0, &killed);
    let mut drained = Samples::default();
    for round in 1..=rounds {
        progress(format_args!("stop of the owner: round {round} of {rounds}"));
        let (mut client, owner) = ready(bench)?;
        let node = &mut bench.cluster.nodes[owner];
        let stopped = std::thread::scope(|scope| {
            let stop = scope.spawn(|| node.stop());
            let mut longest = 0.0_f64;
            while !stop.is_finished() {
                let began = Instant::now();
                client.append("INBOX", &mail::message(0))?;
                longest = longest.max(began.elapsed().as_secs_f64() * 1e3);
            }
            stop.join().expect("it does not panic")?;
            anyhow::Ok(longest)
        })?;
        drained.0.push(stopped);
        bench.cluster.nodes[owner].start()?;
        bench.whole();
    }
    wait_row(&mut table, "SIGTERM (it drains)", 2_000.0, &drained);
    table.note("the time from the kill, and the longest of all APPENDs while the owner stops, in each round");
    Ok(table)
}

/// A client that is connected elsewhere than to the owner, who has had the mailbox for a while.
fn ready(bench: &Bench) -> anyhow::Result<(Client, usize)> {
    let owner = match bench.owner(0) {
        Ok(owner) => owner,
        Err(_) => {
            drop(bench.selected(0)?);
            bench.owner(0)?
        }
    };
    let mut client = bench.selected((owner + 1) % NODES)?;
    client.append("INBOX", &mail::message(0))?;
    Ok((client, owner))
}

fn wait_row(table: &mut Table, what: &str, goal: f64, waits: &Samples) {
    let longest = waits.quantile(1.0).unwrap_or_default();
    table.row(vec![
        Cell::text(what),
        Cell::Figure(waits.clone(), "ms"),
        Cell::figure(longest, "ms"),
        Cell::goal(Some(Goal::AtMost(goal, "ms")), &Samples::one(longest)),
        Cell::text(waits.0.len().to_string()),
    ]);
}
