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

/// So many connections, and how many accounts their mail goes to.
const CASES: [(usize, usize); 4] = [(1, 1), (16, 16), (64, 64), (16, 1)];

/// How mail comes in.
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

/// What is measured in a row of the tables.
#[derive(Clone, Copy)]
struct Case {
    work: Work,
    connections: usize,
    accounts: usize,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        CASES.into_iter().flat_map(|(connections, accounts)| {
            [Work::Append, Work::Lmtp].map(|work| Self { work, connections, accounts })
        })
    }

    fn name(self) -> String {
        let (work, connections) = (self.work.name(), self.connections);
        let plural = if connections == 1 { "" } else { "s" };
        let shared = if self.accounts < connections { ", one mailbox" } else { "" };
        format!("{work}, {connections} connection{plural}{shared}")
    }

    fn user(self, number: usize) -> String {
        let work = self.work.name().to_lowercase();
        format!("{work}{}to{}x{}", self.connections, self.accounts, number % self.accounts)
    }

    /// How many times as fast as Dovecot it is to be.
    fn speed_goal(self) -> Option<Goal> {
        (self.connections == 16).then_some(Goal::times(3.0))
    }

    fn syncs_goal(self) -> Option<Goal> {
        match (self.work, self.connections) {
            (Work::Append, 1) => Some(Goal::AtMost(2.0, "")),
            (Work::Append, 64) => Some(Goal::AtMost(1.0 / 16.0, "")),
            _ => None,
        }
    }

    fn octets_goal(self) -> Option<Goal> {
        (self.work == Work::Append).then_some(Goal::AtMost(10.0, "KiB"))
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
    operations: f64,
    /// Of all of them; nothing for raw writes.
    costs: Costs,
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

fn turn(party: &Party, case: Case, pace: Pace) -> anyhow::Result<Turn> {
    let side = match party {
        Party::Raw(folder) => {
            let per_second = raw::appends(folder, case.connections, pace.time)?;
            return Ok(Turn { per_second, operations: 0.0, costs: Costs::default() });
        }
        Party::Server(side) => side,
    };
    let open = |number| Writer::open(side, case.work, &case.user(number));
    let mut writers = (0..case.connections).map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let body = mail::message(0);
    // The first one makes and opens the account.
    writers.iter_mut().try_for_each(|writer| writer.write(&body))?;
    let before = side.costs()?;
    let load = together(&mut writers, pace.time, |writer| writer.write(&body))?;
    let after = side.costs()?;
    let rise = |of: fn(&Costs) -> f64| of(&after) - of(&before);
    let costs = Costs {
        syncs: rise(|c| c.syncs),
        counted: rise(|c| c.counted),
        written: rise(|c| c.written),
    };
    Ok(Turn { per_second: load.per_second(), operations: load.operations, costs })
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
    for case in Case::all() {
        let measure = |party: &mut Party| turn(party, case, pace);
        let taken = pace.interleave(&case.name(), &mut parties, measure)?;
        speed.row(speed_row(case, &taken));
        costs.row(costs_row(case, &taken));
    }
    speed.note("raw: append + fdatasync of the same octets, as many at once, synced together");
    speed
        .note("Dovecot: sdbox, mail_fsync = always; an account for each connection but where one mailbox is said");
    costs.note("the system's count: write_bytes of all its processes, in whole pages; the file system's journal is in nobody's count");
    Ok(vec![speed, costs])
}

fn samples(taken: Option<&Vec<Turn>>, of: impl Fn(&Turn) -> f64) -> Samples {
    taken.into_iter().flatten().map(of).collect()
}

/// What one operation cost over all turns: some of it is paid in some of them only, as when rows are
/// made durable.
fn each(taken: Option<&Vec<Turn>>, of: impl Fn(&Costs) -> f64) -> Samples {
    let turns = taken.into_iter().flatten();
    let operations: f64 = turns.clone().map(|turn| turn.operations).sum();
    match operations > 0.0 {
        true => Samples::one(turns.map(|turn| of(&turn.costs)).sum::<f64>() / operations),
        false => Samples::default(),
    }
}

fn speed_row(case: Case, taken: &[Vec<Turn>]) -> Vec<Cell> {
    let rates = |party: usize| samples(taken.get(party), |turn| turn.per_second);
    let (raw, ours, theirs) = (rates(0), rates(1), rates(2));
    let of_dovecot = ours.of(&theirs);
    vec![
        Cell::text(case.name()),
        Cell::Rate(ours.clone()),
        Cell::Rate(raw.clone()),
        Cell::Ratio(ours.of(&raw)),
        Cell::Rate(theirs),
        Cell::Ratio(of_dovecot.clone()),
        Cell::goal(case.speed_goal(), &of_dovecot),
    ]
}

fn costs_row(case: Case, taken: &[Vec<Turn>]) -> Vec<Cell> {
    const KIB: f64 = 1024.0;
    let syncs = each(taken.get(1), |costs| costs.syncs);
    let counted = each(taken.get(1), |costs| costs.counted / KIB);
    let written = |party: usize| each(taken.get(party), |costs| costs.written / KIB);
    vec![
        Cell::text(case.name()),
        Cell::Figure(syncs.clone(), ""),
        Cell::goal(case.syncs_goal(), &syncs),
        Cell::Figure(counted.clone(), "KiB"),
        Cell::goal(case.octets_goal(), &counted),
        Cell::Figure(written(1), "KiB"),
        Cell::Figure(written(2), "KiB"),
    ]
}
