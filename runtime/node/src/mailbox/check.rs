//! Checks an account in small steps (E15): first the store components look at their own records, then
//! what they list is held against the ledger, message by message, with the octets. What can be
//! mended without guessing is (`mend`).
//!
//! Nothing here needs the account's state in memory: an account that cannot be opened is what a
//! check is for.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::mailbox::ledger::{self, AccountRow, BodyRow, CountersRow, RowKind};
use postroom_core::records::{MailboxRow, MessageRow};
use postroom_core::types::{MailboxId, ModSeq, SystemFlag, TransactionId, Uid};

use crate::guest::{CheckPage, Finding};
use crate::storage::{Commit, Txn, View, Write};

use super::actor::Actor;
use super::ask::{CheckStep, Checked, Contents, Tally};
use super::count::Recount;
use super::error::{guest, read, storage_error};
use super::limits::CHECK_PAGE;
use super::load::rows_in;
use super::mend::Mending;
use super::mint::{now, random};

/// What is found in one step, and what would mend it.
pub(super) struct Findings {
    found: Vec<(Cow<'static, str>, Finding)>,
    checked: u64,
    /// Mailboxes whose UIDVALIDITY will be another one.
    renewed: Vec<MailboxId>,
}

impl Findings {
    fn new() -> Self {
        Self { found: Vec::new(), checked: 0, renewed: Vec::new() }
    }

    pub(super) fn add(
        &mut self,
        kind: &'static str,
        name: impl ToString,
        problem: impl ToString,
        repaired: bool,
    ) {
        let finding = Finding { name: name.to_string(), problem: problem.to_string(), repaired };
        self.found.push((kind.into(), finding));
    }

    /// A mailbox that is mended with another UIDVALIDITY.
    fn renew(
        &mut self,
        id: MailboxId,
        kind: &'static str,
        name: impl ToString,
        problem: &str,
        repaired: bool,
    ) {
        if repaired {
            self.renewed.push(id);
        }
        self.add(kind, name, problem, repaired);
    }

    fn page(&mut self, kind: &'static str, page: CheckPage) {
        self.checked += page.checked;
        self.found.extend(page.findings.into_iter().map(|finding| (kind.into(), finding)));
    }

    /// Nothing that was found so far is mended after all.
    fn unmended(&mut self) {
        self.found.iter_mut().for_each(|(_, finding)| finding.repaired = false);
    }

    fn next(self, next: Option<CheckStep>) -> Checked {
        Checked { checked: self.checked, findings: self.found, next }
    }
}

impl Actor {
    /// One step of a check.
    ///
    /// # Errors
    /// When storage or a store component is away; `Broken` when one has written without `repair`.
    /// Damage is a finding.
    pub(super) async fn check(
        &mut self,
        step: CheckStep,
        repair: bool,
    ) -> Result<Checked, StoreError> {
        self.fence = Some(self.present_fence().await?);
        let transaction = TransactionId(random());
        let head = read(self.account.env.engine.head(self.account.space())).await?;
        let txn = Txn::new(self.account.env.engine.clone(), self.account.space());
        let mending = Mending { account: &self.account, txn: &txn, transaction, repair };
        let (mut findings, after) = (Findings::new(), step.clone());
        let next = match run(&mending, step, head, &mut findings).await {
            Ok(next) => next,
            Err(StoreError::Damaged(problem)) => {
                // What a step has written before it failed is nothing that could be kept.
                drop(txn.take());
                findings.unmended();
                findings.add("ledger", "", problem, false);
                self.skipped(after).await?
            }
            Err(error) => return Err(error),
        };
        let writes = txn.take();
        if !repair && !writes.is_empty() {
            return Err(StoreError::Broken("the store wrote in a check without repair".into()));
        }
        let mended = self.commit_repair(writes, head, &findings.renewed).await?;
        // The check's own commit is no change under it.
        let next = match next {
            Some(CheckStep::Contents(mut contents)) if mended => {
                contents.head += 1;
                Some(CheckStep::Contents(contents))
            }
            next => next,
        };
        Ok(findings.next(next))
    }

    /// Commits what mends; whether there was anything.
    async fn commit_repair(
        &mut self,
        writes: Vec<Write>,
        head: u64,
        renewed: &[MailboxId],
    ) -> Result<bool, StoreError> {
        if writes.is_empty() {
            return Ok(false);
        }
        let commit = Commit {
            space: self.account.space(),
            fence: self.fence,
            expected_head: Some(head),
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes,
            now: now(),
        };
        // What is in memory may be wrong in whatever was mended, and UIDs that a session knows mean
        // nothing under another UIDVALIDITY.
        self.account.with(|shared| {
            shared.drop_state();
            renewed.iter().for_each(|id| shared.evict(*id));
        });
        match self.account.env.commit(commit).await {
            Some(committed) => committed.map(|_| true).map_err(storage_error),
            None => Err(StoreError::UnknownOutcome),
        }
    }

    /// The step after one that could not be read.
    async fn skipped(&self, step: CheckStep) -> Result<Option<CheckStep>, StoreError> {
        match step {
            CheckStep::Contents(contents) => {
                let view = View::new(self.account.env.engine.clone(), self.account.space());
                let next = next_mailbox(&view, Some(contents.mailbox), 0).await;
                Ok(next.unwrap_or(Some(CheckStep::Totals)))
            }
            CheckStep::Mailboxes(_) => Ok(Some(CheckStep::Messages(None))),
            CheckStep::Messages(_) => Ok(Some(CheckStep::Pairs)),
            CheckStep::Pairs | CheckStep::Totals => Ok(None),
        }
    }
}

async fn run(
    mending: &Mending<'_>,
    step: CheckStep,
    head: u64,
    findings: &mut Findings,
) -> Result<Option<CheckStep>, StoreError> {
    let (call, stores) = (mending.call(), &mending.account.env.stores);
    match step {
        CheckStep::Mailboxes(after) => {
            let check = stores.mailboxes.check(call, mending.txn, after, mending.repair);
            let page = guest(check).await?;
            let next = page.next.clone();
            findings.page("mailbox", page);
            Ok(Some(match next {
                Some(cursor) => CheckStep::Mailboxes(Some(cursor)),
                None => CheckStep::Messages(None),
            }))
        }
        CheckStep::Messages(after) => {
            let check = stores.messages.check(call, mending.txn, after, mending.repair);
            let page = guest(check).await?;
            let next = page.next.clone();
            findings.page("message", page);
            Ok(Some(match next {
                Some(cursor) => CheckStep::Messages(Some(cursor)),
                None => CheckStep::Pairs,
            }))
        }
        CheckStep::Pairs => {
            pairs(mending, findings).await?;
            next_mailbox(&mending.txn.view(), None, head).await
        }
        CheckStep::Contents(contents) => contents_page(mending, contents, head, findings).await,
        CheckStep::Totals => {
            totals(mending, findings).await?;
            Ok(None)
        }
    }
}

/// The check of the next mailbox in the ledger; the totals after the last one.
async fn next_mailbox(
    view: &View,
    after: Option<MailboxId>,
    head: u64,
) -> Result<Option<CheckStep>, StoreError> {
    let counters = counters(view).await?;
    let next = counters.keys().find(|id| after.is_none_or(|after| **id > after));
    Ok(Some(match next {
        Some(id) => CheckStep::Contents(Contents {
            mailbox: *id,
            after: None,
            tally: Tally::default(),
            head,
        }),
        None => CheckStep::Totals,
    }))
}

async fn counters(view: &View) -> Result<BTreeMap<MailboxId, CountersRow>, StoreError> {
    let rows = rows_in(view, ledger::range_of(RowKind::Counters)).await?;
    let row = |(key, value): &(Bytes, Bytes)| {
        Ok((ledger::mailbox_in(key)?, ledger::decode::<CountersRow>(value)?))
    };
    rows.iter().map(row).collect()
}

/// Mailboxes of the store against those of the ledger.
async fn pairs(mending: &Mending<'_>, findings: &mut Findings) -> Result<(), StoreError> {
    let rows = mending.account.mailbox_rows(mending.transaction).await?;
    let mut counted = counters(&mending.txn.view()).await?;
    let new = rows.iter().filter(|row| counted.remove(&row.id).is_none());
    let new: Vec<&MailboxRow> = new.collect();
    findings.checked += rows.len() as u64;
    let mut recount = Recount::new(mending, &rows);
    for row in new {
        let problem = "the mailbox was not counted";
        match recount.mailbox(row).await {
            Ok(()) => findings.renew(row.id, "ledger", &row.name, problem, mending.repair),
            Err(StoreError::Damaged(why)) => {
                findings.add("ledger", &row.name, format!("{problem}: {why}"), false);
            }
            Err(error) => return Err(error),
        }
    }
    for id in counted.keys() {
        recount.recover(*id).await?;
        let problem = "the store has lost this mailbox";
        findings.renew(*id, "mailbox", id, problem, mending.repair);
    }
    Ok(())
}

/// A page of a mailbox's messages.
async fn contents_page(
    mending: &Mending<'_>,
    mut at: Contents,
    head: u64,
    findings: &mut Findings,
) -> Result<Option<CheckStep>, StoreError> {
    let account = mending.account;
    let view = View::new(account.env.engine.clone(), account.space());
    let list = &account.env.stores.messages;
    let list = list.list(mending.call(), &view, at.mailbox, at.after, CHECK_PAGE);
    let page = guest(list).await?;
    let last = page.rows.last().filter(|_| page.more).map_or(Uid::MAX, |row| row.uid);
    let known = body_rows(account, at.mailbox, at.after, last).await?;
    let counted = counters(&mending.txn.view()).await?.remove(&at.mailbox);
    let mark = counted.map_or(Uid::MIN, |counted| counted.recent_mark);
    for row in joined(page.rows, known) {
        findings.checked += 1;
        if let Some(row) = mending.message(at.mailbox, row, findings).await? {
            count(&mut at.tally, &row, mark);
        }
    }
    if page.more && last > at.after.unwrap_or(Uid::MIN) {
        return Ok(Some(CheckStep::Contents(Contents { after: Some(last), ..at })));
    }
    let unchanged = at.head == head;
    if let Some(counted) = counted.filter(|_| unchanged) {
        mending.counters(at.mailbox, &counted, &at.tally, findings)?;
    }
    next_mailbox(&mending.txn.view(), Some(at.mailbox), head).await
}

/// A message as the store has it and as the ledger has it: at least one of both.
pub(super) type Pair = (Uid, Option<MessageRow>, Option<BodyRow>);

fn joined(rows: Vec<MessageRow>, mut known: BTreeMap<Uid, BodyRow>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> =
        rows.into_iter().map(|row| (row.uid, known.remove(&row.uid), row)).map(swap).collect();
    pairs.extend(known.into_iter().map(|(uid, body)| (uid, None, Some(body))));
    pairs.sort_by_key(|pair| pair.0);
    pairs
}

fn swap((uid, body, row): (Uid, Option<BodyRow>, MessageRow)) -> Pair {
    (uid, Some(row), body)
}

async fn body_rows(
    account: &super::account::Account,
    mailbox: MailboxId,
    after: Option<Uid>,
    last: Uid,
) -> Result<BTreeMap<Uid, BodyRow>, StoreError> {
    let (first, end) = ledger::bodies_of(mailbox);
    let start = after.map_or(first, |uid| super::load::after(&ledger::body_key(mailbox, uid)));
    let end = end.min(super::load::after(&ledger::body_key(mailbox, last)));
    let rows = account.rows((start, end)).await?;
    let row = |(key, value): &(Bytes, Bytes)| Ok((ledger::uid_in(key)?, ledger::decode(value)?));
    rows.iter().map(row).collect()
}

/// Counts a message.
pub(super) fn count(tally: &mut Tally, row: &MessageRow, recent_mark: Uid) {
    tally.messages += 1;
    tally.unseen += u32::from(!row.flags.has(SystemFlag::Seen));
    tally.deleted += u32::from(row.flags.has(SystemFlag::Deleted));
    tally.size += row.size;
    tally.recent += u32::from(row.uid >= recent_mark);
    tally.last = tally.last.max(row.uid.get());
    tally.modseq = tally.modseq.max(row.modseq.0);
}

/// The account's counters against those of its mailboxes.
async fn totals(mending: &Mending<'_>, findings: &mut Findings) -> Result<(), StoreError> {
    let account = mending.account;
    let row = account.account_row().await?;
    let counted = counters(&mending.txn.view()).await?;
    let rows: Vec<MailboxRow> = account.mailbox_rows(mending.transaction).await?;
    if row.is_none() && counted.is_empty() && rows.is_empty() {
        return Ok(());
    }
    let row = row.unwrap_or_default();
    let modseq = counted.values().map(|counted| counted.highest_modseq).max();
    let uid_validity = rows.iter().map(|row| row.uid_validity.0.get()).max();
    let right = AccountRow {
        modseq: row.modseq.max(modseq.unwrap_or(ModSeq(0))),
        uid_validity: row.uid_validity.max(uid_validity.unwrap_or(0)),
        used_octets: counted.values().map(|counted| counted.size).sum(),
    };
    findings.checked += 1;
    if right != row {
        mending.account_row(&right)?;
        let problem = format!("the account has {row:?}, its mailboxes come to {right:?}");
        findings.add("ledger", "account", problem, mending.repair);
    }
    Ok(())
}
