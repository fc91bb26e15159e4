//! Suite `write`: APPEND and LMTP, durable, against what the disk can do and against Dovecot.

use std::path::Path;

use anyhow::ensure;
use postroom_system::LmtpClient;

use crate::client::Client;
use crate::mail;
use crate::raw;
use crate::report::{Cell, Goal, Samples, Table};
use crate::rounds::{Pace, together};
use crate::servers::{Costs, Servers, Side};

const SUITE: &str = "write";
const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// How mail comes in.
const WORKS: [Work; 2] = [Work::Append, Work::Lmtp];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Append,
    Lmtp,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Append => "APPEND",
            Self::Lmtp => "LMTP",
        }
    }
}

/// Who takes turns.
enum Party<'a> {
    Raw(&'a Path),
    Server(Side),
}

/// What one turn came to.
#[derive(Clone, Copy)]
struct Turn {
    per_second: f64,
    /// Of one operation; nothing for raw writes.
    each: Costs,
}

/// One connection, and who its mail is for.
enum Writer {
    Imap(Client),
    Lmtp(LmtpClient, String),
}

impl Writer {
    fn open(side: &Side, work: Work, user: &str) -> anyhow::Result<Self> {
        Ok(match work {
            Work::Append => Self::Imap(side.log_in(user)?),
            Work::Lmtp => {
                Self::Lmtp(LmtpClient::connect(side.lmtp)?, format!("{user}@example.org"))
            }
        })
    }

    fn write(&mut self, body: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Imap(client) => client.append("INBOX", body),
            Self::Lmtp(client, to) => {
                let replies = client.deliver(&[to.as_str()], body)?;
                ensure!(replies[0].starts_with("250"), "LMTP: {}", replies[0]);
                Ok(())
            }
        }
    }
}

fn turn(party: &Party, work: Work, connections: usize, pace: Pace) -> anyhow::Result<Turn> {
    let side = match party {
        Party::Raw(folder) => {
            let per_second = raw::appends(folder, connections, pace.time)?;
            return Ok(Turn { per_second, each: Costs::default() });
        }
        Party::Server(side) => side,
    };
    let user = |number| format!("{}{connections}x{number}", work.name().to_lowercase());
    let open = |number| Writer::open(side, work, &user(number));
    let mut writers = (0..connections).map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let body = mail::message(0);
    // The first one makes and opens the account.
    writers.iter_mut().try_for_each(|writer| writer.write(&body))?;
    let before = side.costs()?;
    let load = together(&mut writers, pace.time, |writer| writer.write(&body))?;
    let after = side.costs()?;
    let each = |of: fn(&Costs) -> f64| (of(&after) - of(&before)) / load.operations;
    let each = Costs {
        syncs: each(|c| c.syncs),
        counted: each(|c| c.counted),
        written: each(|c| c.written),
    };
    Ok(Turn { per_second: load.per_second(), each })
}

/// All of the suite.
pub fn run(pace: Pace, with_dovecot: bool) -> anyhow::Result<Vec<Table>> {
    let servers = Servers::start(with_dovecot)?;
    let mut parties = vec![Party::Raw(servers.folder())];
    parties.extend(servers.sides.iter().copied().map(Party::Server));
    let heads = ["4 KiB, durable", "Postroom", "raw", "of raw", "Dovecot", "of Dovecot", "goal"];
    let mut speed = Table::new(SUITE, "Writing", &heads);
    let heads = [
        "4 KiB, durable",
        "syncs each",
        "goal",
        "KiB each, its count",
        "goal for KiB",
        "KiB each, the system's count",
        "Dovecot, the system's count",
    ];
    let mut costs = Table::new(SUITE, "What one operation costs the disk", &heads);
    for connections in CONNECTIONS {
        for work in WORKS {
            let what = format!("{}, {connections} connections", work.name());
            let taken =
                pace.interleave(&what, &mut parties, |party| turn(party, work, connections, pace))?;
            speed.row(speed_row(&what, connections, &taken));
            costs.row(costs_row(&what, work, connections, &taken));
        }
    }
    speed.note("raw: append + fdatasync of the same octets, as many at once, synced together");
    speed
        .note("Dovecot: sdbox, mail_fsync = always; one account for each connection on both sides");
    costs.note("the system's count: write_bytes of all its processes, in whole pages; the file system's journal is in nobody's count");
    Ok(vec![speed, costs])
}

fn samples(taken: Option<&Vec<Turn>>, of: impl Fn(&Turn) -> f64) -> Samples {
    taken.into_iter().flatten().map(of).collect()
}

fn speed_row(what: &str, connections: usize, taken: &[Vec<Turn>]) -> Vec<Cell> {
    let rates = |party: usize| samples(taken.get(party), |turn| turn.per_second);
    let (raw, ours, theirs) = (rates(0), rates(1), rates(2));
    let of_dovecot = ours.of(&theirs);
    let goal = (connections == 16).then_some(Goal::times(3.0));
    vec![
        Cell::text(what),
        Cell::Rate(ours.clone()),
        Cell::Rate(raw.clone()),
        Cell::Ratio(ours.of(&raw)),
        Cell::Rate(theirs),
        Cell::Ratio(of_dovecot.clone()),
        Cell::goal(goal, &of_dovecot),
    ]
}

fn costs_row(what: &str, work: Work, connections: usize, taken: &[Vec<Turn>]) -> Vec<Cell> {
    const KIB: f64 = 1024.0;
    let syncs = samples(taken.get(1), |turn| turn.each.syncs);
    let counted = samples(taken.get(1), |turn| turn.each.counted / KIB);
    let written = |party: usize| samples(taken.get(party), |turn| turn.each.written / KIB);
    let syncs_goal = match (work, connections) {
        (Work::Append, 1) => Some(Goal::AtMost(2.0, "")),
        (Work::Append, 64) => Some(Goal::AtMost(1.0 / 16.0, "")),
        _ => None,
    };
    let octets_goal = (work == Work::Append).then_some(Goal::AtMost(10.0, "KiB"));
    vec![
        Cell::text(what),
        Cell::Figure(syncs.clone(), ""),
        Cell::goal(syncs_goal, &syncs),
        Cell::Figure(counted.clone(), "KiB"),
        Cell::goal(octets_goal, &counted),
        Cell::Figure(written(1), "KiB"),
        Cell::Figure(written(2), "KiB"),
    ]
}
