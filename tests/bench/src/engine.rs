//! Suite `engine`: durable appends straight to the embedded engine, against what the disk can do;
//! and when a body is better stored, with its commit or before it, by its size.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postroom_core::types::{AccountId, Slot};
use postroom_node::storage::{
    Area, Claimant, Commit, Engine, Fence, Key, RedbEngine, RedbOptions, Space, Write,
};
use postroom_system::scratch;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::mail;
use crate::raw;
use crate::report::{Cell, Goal, Samples, Table};
use crate::rounds::Pace;

const SUITE: &str = "engine";
const IN_FLIGHT: [usize; 4] = [1, 16, 64, 256];
/// Octets of the row that goes with each message.
const ROW_OCTETS: usize = 200;
/// Every turn has accounts of its own, among so many.
const ACCOUNTS_OF_A_TURN: u128 = 100_000;

/// Sizes of bodies that one side brings with the commit and the other stores before it.
const SIZES: [usize; 6] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 512 << 10, 1 << 20];
const IN_FLIGHT_OF_SIZES: [usize; 2] = [1, 16];

/// Who takes turns.
enum Party<'a> {
    Raw(&'a Path),
    Engine { runtime: &'a Runtime, engine: Arc<RedbEngine> },
}

/// What one turn came to; syncs and octets are the engine's.
#[derive(Clone, Copy)]
struct Turn {
    per_second: f64,
    messages: f64,
    syncs: f64,
    octets: f64,
}

/// What one message cost over all turns: the rows are made durable in some of them only.
fn each(turns: &[Turn], of: fn(&Turn) -> f64) -> Samples {
    let messages: f64 = turns.iter().map(|turn| turn.messages).sum();
    Samples::one(turns.iter().map(of).sum::<f64>() / messages)
}

/// One account's writer: one commit after the other.
struct Writer {
    engine: Arc<RedbEngine>,
    space: Space,
    fence: Fence,
    body: Bytes,
    done: u64,
}

impl Writer {
    /// Of a new account.
    async fn new(engine: Arc<RedbEngine>, account: AccountId, body: Bytes) -> anyhow::Result<Self> {
        let slot = Slot::of(account);
        let previous = engine.claimed(slot).await?.map(|(epoch, _)| epoch);
        let claimant = Claimant { node: "bench".into(), generation: 1, nonce: [1; 16] };
        let fence = engine.claim(slot, claimant, previous).await?;
        Ok(Self { engine, space: Space::Account(account), fence, body, done: 0 })
    }

    /// A message, its row, and a counter, in one commit.
    async fn append(&mut self) -> anyhow::Result<()> {
        let body = self.engine.new_body(self.space, self.body.clone()).await?;
        let put = |octets: Vec<u8>, value: Vec<u8>| {
            Write::Put(Key { area: Area::Message, octets: octets.into() }, value.into())
        };
        let number = self.done.to_be_bytes();
        let row = put([&b"m"[..], &number].concat(), vec![b'x'; ROW_OCTETS]);
        let counter = put(b"c".to_vec(), number.to_vec());
        let link = Write::LinkBody { name: self.done.to_string(), body };
        let commit = Commit {
            space: self.space,
            fence: Some(self.fence),
            expected_head: None,
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes: vec![link, row, counter],
            now: 0,
        };
        self.engine.commit(commit).await?;
        self.done += 1;
        Ok(())
    }
}

async fn appends(
    engine: &Arc<RedbEngine>,
    body: &Bytes,
    first: u128,
    writers: usize,
    time: Duration,
) -> anyhow::Result<Turn> {
    let (mut slots, mut ready) = (BTreeSet::new(), Vec::new());
    // Accounts whose slots differ: a claim takes a slot from whoever has it.
    let accounts = (first..).map(AccountId::from_u128);
    for account in accounts.filter(|account| slots.insert(Slot::of(*account))).take(writers) {
        ready.push(Writer::new(engine.clone(), account, body.clone()).await?);
    }
    let (before, start) = (engine.stats(), Instant::now());
    let mut tasks = JoinSet::new();
    for mut writer in ready {
        tasks.spawn(async move {
            while start.elapsed() < time {
                writer.append().await?;
            }
            anyhow::Ok(writer.done)
        });
    }
    let mut done = 0;
    while let Some(joined) = tasks.join_next().await {
        done += joined??;
    }
    let (after, done) = (engine.stats(), done as f64);
    Ok(Turn {
        per_second: done / start.elapsed().as_secs_f64(),
        messages: done,
        syncs: (after.syncs - before.syncs) as f64,
        octets: (after.written_octets - before.written_octets) as f64,
    })
}

/// All of the suite.
pub fn run(pace: Pace) -> anyhow::Result<Vec<Table>> {
    let runtime = Runtime::new()?;
    Ok(vec![against_the_disk(pace, &runtime)?, by_size(pace, &runtime)?])
}

fn against_the_disk(pace: Pace, runtime: &Runtime) -> anyhow::Result<Table> {
    let (folder, body) = (scratch(), Bytes::from(mail::message(0)));
    let engine = RedbEngine::open(&folder.path().join("engine"), RedbOptions::default())?;
    let mut parties =
        [Party::Raw(folder.path()), Party::Engine { runtime, engine: Arc::new(engine) }];
    let title = "Durable commits, straight to the engine: 4 KiB, a row of 200 octets, a counter";
    let heads = ["in flight", "engine", "raw", "of raw", "goal", "syncs each", "KiB each"];
    let mut table = Table::new(SUITE, title, &heads);
    let mut first = 1;
    for in_flight in IN_FLIGHT {
        let what = format!("{in_flight} in flight");
        let taken = pace.interleave(&what, &mut parties, |party| match party {
            Party::Raw(folder) => {
                let per_second = raw::appends(folder, in_flight, pace.time)?;
                Ok(Turn { per_second, messages: 0.0, syncs: 0.0, octets: 0.0 })
            }
            Party::Engine { runtime, engine } => {
                first += ACCOUNTS_OF_A_TURN;
                runtime.block_on(appends(engine, &body, first, in_flight, pace.time))
            }
        })?;
        table.row(row(in_flight, &taken));
    }
    table.note("raw: append + fdatasync of the same 4 KiB, as many at once, synced together; syncs and KiB by the engine's count");
    Ok(table)
}

/// The same commits with bodies of other sizes, which come with them or are stored before.
fn by_size(pace: Pace, runtime: &Runtime) -> anyhow::Result<Table> {
    let folder = scratch();
    let open = |name: &str, inline_octets| {
        let options = RedbOptions { inline_octets, ..RedbOptions::default() };
        RedbEngine::open(&folder.path().join(name), options).map(Arc::new)
    };
    let mut engines = [open("with", usize::MAX)?, open("before", 0)?];
    let title = "Bodies that come with their commit against bodies stored before it, by size";
    let heads = ["body", "in flight", "with", "before", "with of before", "KiB each", "KiB each"];
    let mut table = Table::new(SUITE, title, &heads);
    let mut first = 1;
    for octets in SIZES {
        let body: Bytes = mail::message(0).into_iter().cycle().take(octets).collect();
        for in_flight in IN_FLIGHT_OF_SIZES {
            let what = format!("bodies of {} KiB, {in_flight} in flight", octets >> 10);
            let taken = pace.interleave(&what, &mut engines, |engine| {
                first += ACCOUNTS_OF_A_TURN;
                runtime.block_on(appends(engine, &body, first, in_flight, pace.time))
            })?;
            let rate = |side: usize| taken[side].iter().map(|turn| turn.per_second).collect();
            let (with, before): (Samples, Samples) = (rate(0), rate(1));
            let ratio = with.of(&before);
            let written =
                |side: usize| Cell::Figure(each(&taken[side], |turn| turn.octets / 1024.0), "KiB");
            let size = Cell::text(format!("{} KiB", octets >> 10));
            table.row(vec![
                size,
                Cell::text(in_flight.to_string()),
                Cell::Rate(with),
                Cell::Rate(before),
                Cell::Ratio(ratio),
                written(0),
                written(1),
            ]);
        }
    }
    table.note("KiB each: what is written for one message, first with its commit, then before it");
    Ok(table)
}

fn row(in_flight: usize, taken: &[Vec<Turn>]) -> Vec<Cell> {
    let rate = |party: usize| taken[party].iter().map(|turn| turn.per_second).collect();
    let (raw, ours): (Samples, Samples) = (rate(0), rate(1));
    let of_raw = ours.of(&raw);
    vec![
        Cell::text(in_flight.to_string()),
        Cell::Rate(ours),
        Cell::Rate(raw),
        Cell::Ratio(of_raw.clone()),
        Cell::goal((in_flight == 64).then_some(Goal::times(0.5)), &of_raw),
        Cell::Figure(each(&taken[1], |turn| turn.syncs), ""),
        Cell::Figure(each(&taken[1], |turn| turn.octets / 1024.0), "KiB"),
    ]
}
