//! Suite `idle`: what an idle connection takes of memory, and how soon it hears of new mail.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::client::Client;
use crate::machine;
use crate::mail;
use crate::report::{Cell, Goal, Samples, Table, progress};
use crate::rounds::Pace;
use crate::servers::{Servers, Side};

const SUITE: &str = "idle";
/// Accounts that the connections belong to.
const ACCOUNTS: usize = 50;
/// Who is told of new mail.
const WATCHER: &str = "watcher";
/// Samples of latency that are enough.
const SAMPLES: usize = 1_000;
/// Samples of latency that are taken however long they take.
const FEWEST_SAMPLES: usize = 10;

/// A user's connection with INBOX selected, in IDLE.
fn idling(side: &Side, user: &str) -> anyhow::Result<Client> {
    let mut client = side.log_in(user)?;
    client.command("SELECT INBOX")?;
    client.idle()?;
    Ok(client)
}

/// How soon EXISTS comes, in milliseconds.
#[derive(Default)]
struct Latency {
    /// After an APPEND was sent.
    after_sending: Samples,
    /// After its OK came.
    after_ok: Samples,
}

fn latency(watcher: &mut Client, writer: &mut Client, time: Duration) -> anyhow::Result<Latency> {
    let (begin, mut latency) = (Instant::now(), Latency::default());
    let milliseconds = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    let body = mail::message(0);
    while latency.after_ok.0.len() < FEWEST_SAMPLES
        || (latency.after_ok.0.len() < SAMPLES && begin.elapsed() < time)
    {
        let sent = Instant::now();
        let tag = writer.send_append("INBOX", &body)?;
        watcher.exists()?;
        latency.after_sending.0.push(milliseconds(sent));
        writer.appended(&tag)?;
        writer.append("INBOX", &body)?;
        let acknowledged = Instant::now();
        watcher.exists()?;
        latency.after_ok.0.push(milliseconds(acknowledged));
    }
    Ok(latency)
}

/// Memory in KiB, and latency among all those connections.
struct Measured {
    before: f64,
    after: f64,
    latency: Latency,
}

fn measure(side: &Side, connections: usize, pace: Pace) -> anyhow::Result<Measured> {
    let user = |number| format!("idle{}", number % ACCOUNTS);
    let mut writer = side.log_in(WATCHER)?;
    writer.append("INBOX", &mail::message(0))?;
    // First of all: Dovecot's processes share few inotify instances, and are told late without one.
    let mut watcher = idling(side, WATCHER)?;
    // What an account takes is not a connection's.
    let mut idle = Vec::new();
    for number in 0..ACCOUNTS {
        idle.push(idling(side, &user(number))?);
    }
    let before = side.pss();
    for number in 0..connections {
        idle.push(idling(side, &user(number))?);
        if (number + 1) % connections.div_ceil(4) == 0 {
            progress(format_args!("{}: {} connections in IDLE", side.name, number + 1));
        }
    }
    let after = side.pss();
    progress(format_args!("{}: latency", side.name));
    let latency = latency(&mut watcher, &mut writer, pace.time * pace.rounds as u32)?;
    Ok(Measured { before, after, latency })
}

/// All of the suite.
pub fn run(pace: Pace, connections: usize, with_dovecot: bool) -> anyhow::Result<Vec<Table>> {
    // Each has one end here and one in a server; both have other files besides.
    let needed = (connections + ACCOUNTS) as u64 + 500;
    let allowed = machine::open_files();
    ensure!(
        allowed >= needed,
        "{needed} files must be open at once, {allowed} may be: `ulimit -n {needed}`"
    );
    let servers = Servers::start(with_dovecot)?;
    let title = format!("Memory of {connections} connections in IDLE (proportional set size)");
    let heads = ["server", "before", "with them", "each", "goal"];
    let mut memory = Table::new(SUITE, title, &heads);
    let heads = [
        "server",
        "p50 from OK",
        "p99 from OK",
        "goal",
        "p50 from sending",
        "p99 from sending",
        "samples",
    ];
    let mut soon = Table::new(SUITE, "From an APPEND to EXISTS in IDLE", &heads);
    for (number, side) in servers.sides.iter().enumerate() {
        // Dovecot's are there to be compared with; the goals are ours.
        let ours = |goal| (number == 0).then_some(goal);
        let measured = measure(side, connections, pace)?;
        let each = (measured.after - measured.before) / connections as f64;
        memory.row(vec![
            Cell::text(side.name),
            Cell::figure(measured.before, "KiB"),
            Cell::figure(measured.after, "KiB"),
            Cell::figure(each, "KiB"),
            Cell::goal(ours(Goal::AtMost(20.0, "KiB")), &Samples::one(each)),
        ]);
        soon.row(latency_row(side.name, &measured.latency, ours(Goal::AtMost(3.0, "ms"))));
    }
    memory.note(format!("all processes of a server; {ACCOUNTS} accounts, open before; one connection after the other"));
    soon.note(format!("one connection among {connections} idle ones; 4 KiB messages; both ends are read by one client"));
    Ok(vec![memory, soon])
}

fn latency_row(name: &str, latency: &Latency, goal: Option<Goal>) -> Vec<Cell> {
    let quantile = |samples: &Samples, share| {
        samples.quantile(share).map_or(Cell::Empty, |figure| Cell::figure(figure, "ms"))
    };
    vec![
        Cell::text(name),
        quantile(&latency.after_ok, 0.5),
        quantile(&latency.after_ok, 0.99),
        Cell::goal(goal, &latency.after_ok),
        quantile(&latency.after_sending, 0.5),
        quantile(&latency.after_sending, 0.99),
        Cell::text(latency.after_ok.0.len().to_string()),
    ]
}
