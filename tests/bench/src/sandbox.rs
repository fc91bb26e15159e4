//! Suite `sandbox`: what WebAssembly costs. The default store component, in the node's hosting,
//! against the same store logic linked natively (its twin), each under a message store of its own
//! over an embedded engine of its own; everything else is the same code in the same process.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use keyed::Keyed;
use postroom_contract::twin::Twin;
use postroom_core::calls::{Call, NewMessage, Reply, Secret};
use postroom_core::types::{
    Flag, FlagChange, FlagChangeKind, Flags, MailboxName, SystemFlag, Uid, UidSet,
};
use postroom_node::guest::{Grants, Host, HostConfig, Limits, Stores, default_store};
use postroom_node::message_store::{Config, DirectoryMode, MessageStore, SessionHandle};
use postroom_node::storage::{RedbEngine, RedbOptions};
use postroom_system::scratch;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::mail;
use crate::report::{Cell, Goal, Samples, Table, progress};
use crate::rounds::Pace;

const SUITE: &str = "sandbox";
/// The account with the large mailbox.
const LARGE: &str = "large";
/// Small mailboxes of the same account: more than stay open that nobody has selected, so that
/// selecting them all closes the large one.
const SMALL_MAILBOXES: usize = 6;
/// Messages that one call adds when the mailbox is filled.
const FILL: u64 = 500;

/// A message store over one kind of store.
struct Side {
    name: &'static str,
    store: MessageStore,
    /// Of the account with the large mailbox.
    large: SessionHandle,
    /// Whether the flag is set: it changes with each STORE.
    flagged: bool,
}

/// What is measured.
#[derive(Clone, Copy)]
enum Work {
    /// Durable appends: how many in flight, and over how many accounts.
    Append { in_flight: usize, accounts: usize },
    /// Something with the large mailbox.
    Large(Large),
}

#[derive(Clone, Copy)]
enum Large {
    /// A flag of every message changes.
    StoreAll,
    /// It is read from its store and made active.
    Open,
}

const WORKS: [(&str, Work); 6] = [
    ("append, 1 in flight", Work::Append { in_flight: 1, accounts: 1 }),
    ("append, 16 in flight", Work::Append { in_flight: 16, accounts: 16 }),
    ("append, 64 in flight", Work::Append { in_flight: 64, accounts: 64 }),
    ("append, 64 in flight, one account", Work::Append { in_flight: 64, accounts: 1 }),
    ("STORE ±FLAGS of the large mailbox", Work::Large(Large::StoreAll)),
    ("list and open the large mailbox", Work::Large(Large::Open)),
];

async fn component() -> anyhow::Result<Stores> {
    let host = Host::new(HostConfig::default())?;
    let component = host.load(default_store(), &Grants::default(), Limits::default()).await?;
    Ok(Stores::all(component))
}

fn mailbox(name: &str) -> MailboxName {
    MailboxName::new(name).expect("it is one")
}

async fn append(
    store: &MessageStore,
    session: &SessionHandle,
    name: &str,
    bodies: Vec<Bytes>,
) -> anyhow::Result<()> {
    let message = |body| NewMessage { flags: Flags::default(), internal_date: None, body };
    let messages = bodies.into_iter().map(message).collect();
    let call = Call::Append { mailbox: mailbox(name), messages };
    store.call(session, store.transaction(), call).await?;
    Ok(())
}

impl Side {
    async fn new(
        name: &'static str,
        stores: Stores,
        folder: &Path,
        messages: u64,
    ) -> anyhow::Result<Self> {
        let engine = RedbEngine::open(&folder.join(name), RedbOptions::default())?;
        let directory = DirectoryMode::Dev { password: Secret("secret".into()) };
        let config = Config { node: "bench".into(), generation: 1, directory };
        let store = MessageStore::new(config, stores, Arc::new(engine));
        let large = store.session_of(LARGE).await?;
        for first in (0..messages).step_by(FILL as usize) {
            let numbers = first..messages.min(first + FILL);
            let bodies = numbers.map(|number| mail::message(number).into()).collect();
            append(&store, &large, "INBOX", bodies).await?;
        }
        for number in 0..SMALL_MAILBOXES {
            let name = mailbox(&format!("Small{number}"));
            let create = Call::Create { name, special_use: None };
            store.call(&large, store.transaction(), create).await?;
        }
        progress(format_args!("{name}: {messages} messages are in"));
        let mut side = Self { name, store, large, flagged: false };
        side.open(messages).await?;
        Ok(side)
    }

    /// Times a second that a work is done.
    async fn turn(&mut self, work: Work, messages: u64, time: Duration) -> anyhow::Result<f64> {
        match work {
            Work::Append { in_flight, accounts } => self.appends(in_flight, accounts, time).await,
            Work::Large(large) => self.repeat(large, messages, time).await,
        }
    }

    async fn repeat(&mut self, work: Large, messages: u64, time: Duration) -> anyhow::Result<f64> {
        let (mut done, mut took) = (0, Duration::ZERO);
        while took < time || done == 0 {
            took += match work {
                Large::StoreAll => self.store_all(messages).await?,
                Large::Open => self.open(messages).await?,
            };
            done += 1;
        }
        Ok(f64::from(done) / took.as_secs_f64())
    }

    async fn appends(
        &self,
        in_flight: usize,
        accounts: usize,
        time: Duration,
    ) -> anyhow::Result<f64> {
        let body = Bytes::from(mail::message(0));
        let mut sessions = Vec::new();
        for number in 0..in_flight {
            let user = format!("writer{in_flight}of{accounts}x{}", number % accounts);
            let session = self.store.session_of(&user).await?;
            // The first one makes and opens the account.
            append(&self.store, &session, "INBOX", vec![body.clone()]).await?;
            sessions.push(session);
        }
        let (start, mut tasks) = (Instant::now(), JoinSet::new());
        for session in sessions {
            let (store, body) = (self.store.clone(), body.clone());
            tasks.spawn(async move {
                let mut done = 0;
                while start.elapsed() < time {
                    append(&store, &session, "INBOX", vec![body.clone()]).await?;
                    done += 1;
                }
                anyhow::Ok(done)
            });
        }
        let mut done = 0;
        while let Some(joined) = tasks.join_next().await {
            done += joined??;
        }
        Ok(f64::from(done) / start.elapsed().as_secs_f64())
    }

    async fn store_all(&mut self, messages: u64) -> anyhow::Result<Duration> {
        let kind = match self.flagged {
            true => FlagChangeKind::Remove,
            false => FlagChangeKind::Add,
        };
        self.flagged = !self.flagged;
        let change = FlagChange { kind, flags: Flags::of([Flag::System(SystemFlag::Flagged)]) };
        let uids = UidSet::range(Uid::MIN, Uid::MAX);
        let call = Call::Store { uids, change, unchanged_since: None };
        let start = Instant::now();
        let reply = self.store.call(&self.large, self.store.transaction(), call).await?;
        let took = start.elapsed();
        let Reply::Stored { rows, .. } = reply else { anyhow::bail!("STORE: {reply:?}") };
        ensure!(rows.len() as u64 == messages, "STORE changed {} messages", rows.len());
        Ok(took)
    }

    /// Closes the large mailbox and opens it again; what the latter takes.
    async fn open(&mut self, messages: u64) -> anyhow::Result<Duration> {
        for number in 0..SMALL_MAILBOXES {
            self.select(&format!("Small{number}")).await?;
        }
        let start = Instant::now();
        let found = self.select("INBOX").await?;
        let took = start.elapsed();
        ensure!(found == messages, "INBOX has {found} messages");
        Ok(took)
    }

    /// How many messages are there.
    async fn select(&self, name: &str) -> anyhow::Result<u64> {
        let call = Call::Select { name: mailbox(name), read_write: true };
        match self.store.call(&self.large, self.store.transaction(), call).await? {
            Reply::Selected(selected) => Ok(selected.uids.len() as u64),
            other => anyhow::bail!("SELECT: {other:?}"),
        }
    }
}

/// All of the suite.
pub fn run(pace: Pace, messages: u64) -> anyhow::Result<Vec<Table>> {
    let (folder, runtime) = (scratch(), Runtime::new()?);
    let mut sides = runtime.block_on(async {
        let component = component().await.context("the store component")?;
        let ours = Side::new("component", component, folder.path(), messages).await?;
        let native = Twin::stores(Keyed);
        let theirs = Side::new("native", native, folder.path(), messages).await?;
        anyhow::Ok([ours, theirs])
    })?;
    let title = format!("What the sandbox costs; the large mailbox has {messages} messages");
    let mut table = Table::new(SUITE, title, &["work", "component", "native", "ratio", "goal"]);
    for (what, work) in WORKS {
        let taken = pace.interleave(what, &mut sides, |side| {
            let turn = side.turn(work, messages, pace.time);
            runtime.block_on(turn).with_context(|| format!("{}: {what}", side.name))
        })?;
        let [ours, native] = [&taken[0], &taken[1]].map(|turns| Samples(turns.clone()));
        let ratio = ours.of(&native);
        let goal = matches!(work, Work::Append { .. }).then_some(Goal::times(0.9));
        table.row(vec![
            Cell::text(what),
            Cell::Rate(ours),
            Cell::Rate(native),
            Cell::Ratio(ratio.clone()),
            Cell::goal(goal, &ratio),
        ]);
    }
    table.note("appends of 4 KiB, durable, made as calls of the message store; in the same process, over an engine of their own each, on one disk; an account for each one in flight but where one is said");
    runtime.block_on(async {
        for side in sides {
            side.store.close().await;
        }
    });
    Ok(vec![table])
}
