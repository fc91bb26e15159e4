//! Brings all rows of a store to the schema that is written, account after account: the part of a
//! deployment that follows when it is permanent.
//!
//! One node does it at a time (`core::deploy` says which), through the router as any other write. How
//! far it is stands in storage, once a second: another node goes on from there. Rows that are brought
//! over twice stay what they are, so nothing else has to be remembered. It takes turns with the
//! clients: after each step it rests as long as the step has taken.

use std::time::{Duration, Instant};

use postroom_core::deploy::Sweep;
use postroom_core::error::StoreError;
use postroom_core::types::AccountId;
use tokio_util::sync::CancellationToken;

use super::shelf::{FoundSweep, Shelf};
use crate::guest::Kind;
use crate::mailbox::error::read;
use crate::mailbox::{SweepStep, Swept, SweptKind};
use crate::message_store::{DirectoryKind, MessageStore};
use crate::storage::Space;

/// Accounts that are found at a time.
const PAGE: usize = 200;
/// How often it is said how far it is.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// Longest rest after a step.
const MAX_REST: Duration = Duration::from_millis(200);
/// Times that a step is tried that does not succeed: its node may hand the account over just then.
const MAX_TRIES: usize = 3;
/// Rest between these.
const TRY_AGAIN: Duration = Duration::from_millis(300);
/// Rest before it goes on after storage was away, and before the first other try of what has failed.
const PASS_AGAIN: Duration = Duration::from_secs(5);
/// Longest rest between these: each is twice as long as the one before. Damage waits for an operator.
const MAX_PASS_REST: Duration = Duration::from_secs(300);

/// Sweeps one store.
pub(super) struct Sweeper {
    pub(super) shelf: Shelf,
    pub(super) mail: MessageStore,
    /// What the store is used for.
    pub(super) kinds: Vec<Kind>,
    pub(super) store: String,
    pub(super) node: String,
    pub(super) round: u64,
}

/// A sweep as it goes.
struct Going {
    found: FoundSweep,
    sweep: Sweep,
    said: Instant,
    /// It was everywhere, and is about what has failed.
    ended: bool,
}

impl Sweeper {
    /// Until it has been everywhere, or is stopped.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut rest = PASS_AGAIN;
        loop {
            // Cancel-safe: a step that has begun goes on to its end, and may be made again.
            let passed = tokio::select! {
                () = stop.cancelled() => return,
                passed = self.pass() => passed,
            };
            let (store, round) = (&*self.store, self.round);
            match passed {
                Ok(true) => {
                    tracing::info!(store, round, "all rows have the schema that is written");
                    return;
                }
                Ok(false) => {
                    rest = (2 * rest).min(MAX_PASS_REST);
                    let seconds = rest.as_secs();
                    tracing::warn!(
                        store,
                        round,
                        seconds,
                        "rows of some accounts stay as they are for now"
                    );
                }
                Err(error) => {
                    rest = PASS_AGAIN;
                    tracing::warn!(store, round, %error, "the sweep pauses");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Goes on from where it is to the end; whether all is done.
    async fn pass(&self) -> Result<bool, StoreError> {
        let mut going = self.begin().await?;
        if going.sweep.done {
            return Ok(true);
        }
        if !going.sweep.directory {
            if let Some(why) = self.directory(&mut going).await? {
                going.sweep.fails(None, &why);
            }
            going.sweep.directory = true;
            self.say(&mut going).await?;
        }
        while let Some(accounts) = self.accounts(&going.sweep).await? {
            for account in accounts {
                if let Some(why) = self.account(&mut going, account).await? {
                    going.sweep.fails(Some(account.to_string()), &why);
                }
                going.sweep.accounts += 1;
                going.sweep.after = Some(account.to_string());
            }
        }
        if going.ended {
            self.again(&mut going).await?;
        }
        let done = going.sweep.passed();
        self.say(&mut going).await?;
        Ok(done)
    }

    /// Tries those again that have failed.
    async fn again(&self, going: &mut Going) -> Result<(), StoreError> {
        for failed in going.sweep.failed.clone() {
            let why = match &failed.account {
                None => self.directory(going).await?,
                Some(account) => self.account(going, id(account)?).await?,
            };
            going.sweep.tried_again(&failed.account, why);
        }
        Ok(())
    }

    async fn begin(&self) -> Result<Going, StoreError> {
        let found = self.shelf.rows(&[]).await?.1;
        let mut ended = false;
        let sweep = match &found.sweep {
            Some(sweep) if sweep.round == self.round => {
                let at_end = sweep.directory && self.accounts(sweep).await?.is_none();
                // Of more than are named nobody knows which: all are looked at again.
                ended = at_end && sweep.failures == sweep.failed.len() as u64;
                let sweep = if at_end && !ended { sweep.again() } else { sweep.clone() };
                Sweep { node: self.node.clone(), ..sweep }
            }
            Some(_) | None => {
                let of = self.count().await?;
                Sweep { round: self.round, node: self.node.clone(), of, ..Sweep::default() }
            }
        };
        let mut going = Going { found, sweep, said: Instant::now(), ended };
        if !going.sweep.done {
            self.say(&mut going).await?;
        }
        Ok(going)
    }

    async fn say(&self, going: &mut Going) -> Result<(), StoreError> {
        let label = || self.store.clone();
        let gauges = [("done", going.sweep.accounts), ("all", going.sweep.of)];
        for (which, accounts) in gauges {
            let labels = [("component", label()), ("accounts", which.to_owned())];
            metrics::gauge!("postroom_store_sweep_accounts", &labels).set(accounts as f64);
        }
        metrics::gauge!("postroom_store_sweep_failures", "component" => label())
            .set(going.sweep.failures as f64);
        going.said = Instant::now();
        match self.shelf.say_sweep(&mut going.found, &going.sweep).await? {
            true => Ok(()),
            false => Err(StoreError::Unavailable("another node sweeps".into())),
        }
    }

    fn keeps_accounts(&self) -> bool {
        [Kind::Mailboxes, Kind::Messages].iter().any(|kind| self.kinds.contains(kind))
    }

    async fn count(&self) -> Result<u64, StoreError> {
        let (mut of, mut from) = (0, Sweep::default());
        while let Some(accounts) = self.accounts(&from).await? {
            of += accounts.len() as u64;
            from.after = accounts.last().map(AccountId::to_string);
        }
        Ok(of)
    }

    /// The next accounts; none: there are no more.
    async fn accounts(&self, sweep: &Sweep) -> Result<Option<Vec<AccountId>>, StoreError> {
        if !self.keeps_accounts() {
            return Ok(None);
        }
        let mut after = match &sweep.after {
            None => None,
            Some(account) => Some(Space::Account(id(account)?)),
        };
        loop {
            let spaces = read(self.shelf.engine().spaces(after, PAGE)).await?;
            let Some(last) = spaces.last() else { return Ok(None) };
            after = Some(*last);
            let accounts: Vec<AccountId> = spaces
                .into_iter()
                .filter_map(|space| match space {
                    Space::Account(account) => Some(account),
                    Space::Directory => None,
                })
                .collect();
            if !accounts.is_empty() {
                return Ok(Some(accounts));
            }
        }
    }

    async fn directory(&self, going: &mut Going) -> Result<Option<String>, StoreError> {
        let mut why = None;
        let kinds = [(Kind::Domains, DirectoryKind::Domains), (Kind::Users, DirectoryKind::Users)];
        for (_, of) in kinds.into_iter().filter(|(kind, _)| self.kinds.contains(kind)) {
            let step = |after| self.mail.sweep_directory(of, after, self.round);
            why = why.or(self.steps(going, step).await?);
        }
        Ok(why)
    }

    async fn account(
        &self,
        going: &mut Going,
        account: AccountId,
    ) -> Result<Option<String>, StoreError> {
        let mut why = None;
        let kinds =
            [(Kind::Mailboxes, SweptKind::Mailboxes), (Kind::Messages, SweptKind::Messages)];
        for (_, of) in kinds.into_iter().filter(|(kind, _)| self.kinds.contains(kind)) {
            let step = |after| {
                let step = SweepStep { of, after, round: self.round };
                self.mail.sweep_account(account, step)
            };
            why = why.or(self.steps(going, step).await?);
        }
        Ok(why)
    }

    /// All steps for one kind of record; why some rows stay as they are, if that is not storage.
    async fn steps<F>(
        &self,
        going: &mut Going,
        step: impl Fn(Option<String>) -> F,
    ) -> Result<Option<String>, StoreError>
    where
        F: Future<Output = Result<Swept, StoreError>>,
    {
        let (mut after, mut why) = (None, None);
        loop {
            let began = Instant::now();
            let swept = match self.tried(&step, &after).await? {
                Ok(swept) => swept,
                Err(error) => return Ok(Some(error.to_string())),
            };
            going.sweep.records += swept.records;
            going.sweep.rewritten += swept.rewritten;
            metrics::counter!("postroom_store_rewritten_total", "component" => self.store.clone())
                .increment(swept.rewritten);
            why = why.or(swept.problem);
            if going.said.elapsed() >= SAY_EVERY {
                self.say(going).await?;
            }
            tokio::time::sleep(began.elapsed().min(MAX_REST)).await;
            match swept.next {
                Some(next) => after = Some(next),
                None => return Ok(why),
            }
        }
    }

    /// One step; outside: storage is away.
    async fn tried<F>(
        &self,
        step: &impl Fn(Option<String>) -> F,
        after: &Option<String>,
    ) -> Result<Result<Swept, StoreError>, StoreError>
    where
        F: Future<Output = Result<Swept, StoreError>>,
    {
        let mut tries = 1;
        loop {
            match step(after.clone()).await {
                Err(error) if error.is_temporary() && tries < MAX_TRIES => {
                    tries += 1;
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                Err(error) => {
                    read(self.shelf.engine().head(Space::Directory)).await?;
                    return Ok(Err(error));
                }
                Ok(swept) => return Ok(Ok(swept)),
            }
        }
    }
}

/// An account, as it is told.
fn id(account: &str) -> Result<AccountId, StoreError> {
    let mut octets = [0; 16];
    hex::decode_to_slice(account, &mut octets)
        .map_err(|_| StoreError::Damaged(format!("the sweep is at an account {account}")))?;
    Ok(AccountId(octets))
}
