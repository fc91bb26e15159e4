//! Suite `read`: what one client does in a large mailbox, against Dovecot, over the same driver.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::client::Client;
use crate::machine;
use crate::mail;
use crate::operations::{Act, Operation, Step, operations};
use crate::report::{Cell, Samples, Table, progress};
use crate::rounds::{Pace, each};
use crate::servers::{Servers, Side};

const SUITE: &str = "read";
/// Who has the large mailbox.
const USER: &str = "reader";
/// Connections that fill it.
const FILLERS: u64 = 16;
/// Mailboxes that operations work with, beside INBOX.
const MAILBOXES: [&str; 4] = ["Copies", "Bin", "Left", "Right"];
/// Further ones, one message in each: LIST-STATUS finds some more than a small account has.
const SMALL_MAILBOXES: u64 = 10;
/// Most logins in one turn: each leaves a port that cannot be used for a while.
const MAX_LOGINS: u32 = 2_000;
/// A turn ends when it has taken this many times its time, preparations included.
const PATIENCE: u32 = 5;
/// Octets a second, in 10⁶, from which they are worth saying.
const MANY_OCTETS: f64 = 1.0;
/// Share of the time above which it is the client that is measured.
const CLIENT_BOUND: f64 = 0.7;

/// One server's connections.
struct Reader {
    side: Side,
    /// Has INBOX selected.
    selected: Client,
    /// Has nothing selected.
    idle: Client,
}

/// What one turn came to.
#[derive(Clone, Copy, Default)]
struct Turn {
    per_second: f64,
    /// Octets that came, a second.
    octets: f64,
    /// Share of the time that the client was on a processor.
    client: f64,
}

/// Puts numbered messages into a mailbox, over several connections.
pub fn fill(side: &Side, user: &str, messages: u64) -> anyhow::Result<()> {
    let open = |number| Ok((number, side.log_in(user)?));
    let mut fillers = (0..FILLERS).map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let part = messages.div_ceil(10).max(1);
    for first in (0..messages).step_by(part as usize) {
        let upto = messages.min(first + part);
        each(&mut fillers, |(number, client)| {
            let mine = (first..upto).filter(|message| message % FILLERS == *number);
            mine.map(mail::message).try_for_each(|body| client.append("INBOX", &body))
        })?;
        progress(format_args!("{}: {upto} of {messages} messages are in", side.name));
    }
    Ok(())
}

impl Reader {
    fn new(side: Side, messages: u64, transfer: u64) -> anyhow::Result<Self> {
        fill(&side, USER, messages)?;
        let (mut selected, mut idle) = (side.log_in(USER)?, side.log_in(USER)?);
        for name in MAILBOXES {
            idle.command(&format!("CREATE {name}"))?;
        }
        for number in 0..SMALL_MAILBOXES {
            idle.command(&format!("CREATE Small{number}"))?;
            idle.append(&format!("Small{number}"), &mail::message(0))?;
        }
        selected.command("SELECT INBOX")?;
        selected.command(&format!("COPY 1:{transfer} Left"))?;
        Ok(Self { side, selected, idle })
    }

    /// Repeats an operation for a time, at least once.
    fn turn(&mut self, operation: &Operation, time: Duration) -> anyhow::Result<Turn> {
        let context = || format!("{}: {}", self.side.name, operation.name);
        let (start, on_processor) = (Instant::now(), machine::thread_time());
        let done = match &operation.act {
            Act::Selected(steps) => repeat(&mut self.selected, steps, time),
            Act::Unselected(steps) => repeat(&mut self.idle, steps, time),
            Act::LogIn => log_in(&self.side, time),
        };
        let done = done.with_context(context)?;
        let on_processor = machine::thread_time() - on_processor;
        let seconds = done.time.as_secs_f64();
        Ok(Turn {
            per_second: f64::from(done.count) / seconds,
            octets: done.octets as f64 / seconds,
            client: on_processor.as_secs_f64() / start.elapsed().as_secs_f64(),
        })
    }
}

/// What was measured of one operation's repetitions.
#[derive(Default)]
struct Done {
    count: u32,
    time: Duration,
    octets: u64,
}

fn repeat(client: &mut Client, steps: &[Step], time: Duration) -> anyhow::Result<Done> {
    let (start, mut done) = (Instant::now(), Done::default());
    while done.count == 0 || (done.time < time && start.elapsed() < time * PATIENCE) {
        for step in steps {
            let start = Instant::now();
            let answer = client.command(&step.command)?;
            let took = start.elapsed();
            let (got, least) = (answer.responses, step.responses);
            ensure!(got >= least, "{}: {got} responses, not {least}", step.command);
            if step.measured {
                done.count += 1;
                done.time += took;
                done.octets += answer.octets;
            }
        }
    }
    Ok(done)
}

/// From the first packet to the answer to LOGIN, on a connection of its own each.
fn log_in(side: &Side, time: Duration) -> anyhow::Result<Done> {
    let (begin, mut done) = (Instant::now(), Done::default());
    while done.count == 0
        || (done.time < time && done.count < MAX_LOGINS && begin.elapsed() < time * PATIENCE)
    {
        let start = Instant::now();
        let mut client = side.log_in(USER)?;
        done.time += start.elapsed();
        done.count += 1;
        client.command("LOGOUT")?;
    }
    Ok(done)
}

/// All of the suite.
pub fn run(pace: Pace, messages: u64, with_dovecot: bool) -> anyhow::Result<Vec<Table>> {
    let servers = Servers::start(with_dovecot)?;
    let transfer = messages.min(1_000);
    let new = |side: &Side| Reader::new(*side, messages, transfer);
    let mut readers = servers.sides.iter().map(new).collect::<anyhow::Result<Vec<_>>>()?;
    let title = format!("One connection, {messages} messages of 4 KiB in its mailbox");
    let heads = ["operation", "Postroom", "Dovecot", "of Dovecot", "goal", "MB/s", "client"];
    let mut table = Table::new(SUITE, title, &heads);
    let mut client_bound = Vec::new();
    let mailboxes = 1 + MAILBOXES.len() as u64 + SMALL_MAILBOXES;
    for operation in operations(messages, transfer, mailboxes) {
        // Whatever is read for the first time is read now: what is measured is the usual case.
        for reader in &mut readers {
            reader.turn(&operation, Duration::ZERO)?;
        }
        let measure = |reader: &mut Reader| reader.turn(&operation, pace.time);
        let taken = pace.interleave(&operation.name, &mut readers, measure)?;
        if shares(&taken).into_iter().any(|share| share > CLIENT_BOUND) {
            client_bound.push(operation.name.clone());
        }
        table.row(row(&operation, &taken));
    }
    table.note("client: how much of the time the measuring client itself was on a processor, with Postroom / with Dovecot");
    if !client_bound.is_empty() {
        let names = client_bound.join("; ");
        table.note(format!("bound by the client, so that the server may be faster: {names}"));
    }
    table.note("MB/s: octets that came from Postroom, in 10⁶ a second, where they are many");
    table.note("LOGIN: from connecting to the answer; passwords are compared as plain text on both sides; Dovecot starts a process for each login, as it does by default");
    Ok(vec![table])
}

fn shares(taken: &[Vec<Turn>]) -> Vec<f64> {
    let median = |turns: &Vec<Turn>| {
        turns.iter().map(|turn| turn.client).collect::<Samples>().median().unwrap_or(0.0)
    };
    taken.iter().map(median).collect()
}

fn row(operation: &Operation, taken: &[Vec<Turn>]) -> Vec<Cell> {
    let samples = |side: usize, of: fn(&Turn) -> f64| -> Samples {
        taken.get(side).into_iter().flatten().map(of).collect()
    };
    let rates = |side| samples(side, |turn| turn.per_second);
    let of_dovecot = rates(0).of(&rates(1));
    let octets = samples(0, |turn| turn.octets / 1e6);
    let octets = match octets.median() {
        Some(many) if many >= MANY_OCTETS => Cell::Figure(octets, ""),
        _ => Cell::Empty,
    };
    let shares = shares(taken).into_iter().map(|share| format!("{:.0} %", share * 100.0));
    vec![
        Cell::text(&operation.name),
        Cell::Rate(rates(0)),
        Cell::Rate(rates(1)),
        Cell::Ratio(of_dovecot.clone()),
        Cell::goal(operation.goal, &of_dovecot),
        octets,
        Cell::text(shares.collect::<Vec<_>>().join(" / ")),
    ]
}
