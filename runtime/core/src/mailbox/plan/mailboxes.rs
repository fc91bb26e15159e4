//! CREATE, DELETE, RENAME, SUBSCRIBE (RFC 9051 §6.3.4 to §6.3.8).

use std::sync::Arc;

use crate::error::StoreError;
use crate::records::MailboxRow;
use crate::types::{MailboxName, UidSet};

use super::super::ledger::{self, LedgerWrite};
use super::super::limits::{MAX_MAILBOXES, MAX_SUBSCRIPTIONS};
use super::super::op::{MoveMessages, Outcome, Planned, Step};
use super::super::state::Mailbox;
use super::{Context, Draft, done, not_found};

/// Special uses that a mailbox can have (RFC 6154 §2).
pub const SPECIAL_USES: [&str; 7] =
    ["\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash"];

impl Draft {
    pub(super) fn ensure_inbox(
        &mut self,
        context: &mut Context<'_>,
    ) -> Result<Planned, StoreError> {
        let inbox = MailboxName::inbox();
        if self.account.find(&inbox).is_some() {
            return Ok(done(Vec::new()));
        }
        let rows = self.make(vec![(inbox, None)], context)?;
        Ok(done(vec![Step::InsertMailboxes(rows)]))
    }

    pub(super) fn create(
        &mut self,
        name: &MailboxName,
        special_use: Option<&str>,
        context: &mut Context<'_>,
    ) -> Result<Planned, StoreError> {
        if self.account.find(name).is_some() {
            return Err(StoreError::AlreadyExists(format!("mailbox {name}")));
        }
        let special_use = special_use.map(|word| self.special_use(word)).transpose()?;
        let mut names = self.missing_above(name);
        names.push((name.clone(), special_use));
        let rows = self.make(names, context)?;
        let id = rows.last().expect("the mailbox itself is among them").id;
        let steps = vec![Step::InsertMailboxes(rows)];
        Ok(Planned { steps, outcome: Outcome::Created(id), rest: None })
    }

    /// A special use in its usual spelling, when no mailbox has it: one of a kind is what clients
    /// expect, and RFC 6154 §3 lets a server refuse the second.
    fn special_use(&self, word: &str) -> Result<String, StoreError> {
        let known = SPECIAL_USES.into_iter().find(|known| known.eq_ignore_ascii_case(word));
        let known = known.ok_or_else(|| StoreError::Invalid(format!("unknown use {word}")))?;
        let taken = self.account.by_name().find(|m| m.row.special_use.as_deref() == Some(known));
        match taken {
            Some(mailbox) => {
                Err(StoreError::Invalid(format!("mailbox {} has {known}", mailbox.row.name)))
            }
            None => Ok(known.to_owned()),
        }
    }

    /// The levels above a name that are no mailboxes yet, top down.
    fn missing_above(&self, name: &MailboxName) -> Vec<(MailboxName, Option<String>)> {
        let above = std::iter::successors(name.parent(), MailboxName::parent);
        let mut missing: Vec<_> = above
            .filter(|name| self.account.find(name).is_none())
            .map(|name| (name, None))
            .collect();
        missing.reverse();
        missing
    }

    /// Makes mailboxes of names that are free.
    fn make(
        &mut self,
        names: Vec<(MailboxName, Option<String>)>,
        context: &mut Context<'_>,
    ) -> Result<Vec<MailboxRow>, StoreError> {
        self.room_for(names.len())?;
        let modseq = self.next_modseq()?;
        // On a copy: the high-water mark must not rise when a later name finds it used up.
        let mut counted = self.account.clone();
        let mut rows = Vec::with_capacity(names.len());
        for (name, special_use) in names {
            let uid_validity = counted.next_uid_validity(context.now)?;
            let id = context.mailbox_id();
            rows.push(MailboxRow { id, name, uid_validity, special_use, extra: Vec::new() });
        }
        self.account = counted;
        self.account.row.modseq = modseq;
        for row in &rows {
            self.account.put(Mailbox::new(row.clone(), modseq));
            self.change(row.id);
        }
        Ok(rows)
    }

    fn room_for(&self, more: usize) -> Result<(), StoreError> {
        match self.account.len() + more <= MAX_MAILBOXES {
            true => Ok(()),
            false => Err(StoreError::Limit(format!("{MAX_MAILBOXES} mailboxes in one account"))),
        }
    }

    /// Mailboxes below stay (RFC 9051 §6.3.5). The ledger's rows of its messages stay too, until
    /// the host has let go of each body: a deletion costs the same whatever the mailbox holds.
    pub(super) fn delete(&mut self, name: &MailboxName) -> Result<Planned, StoreError> {
        let Some(mailbox) = self.account.find(name) else { return Err(not_found(name)) };
        if name.is_inbox() {
            return Err(StoreError::Denied("INBOX cannot be deleted".into()));
        }
        let (id, octets) = (mailbox.row.id, mailbox.counters.size);
        self.account.row.modseq = self.next_modseq()?;
        self.account.row.used_octets = self.account.row.used_octets.saturating_sub(octets);
        self.account.take(id);
        self.changed = true;
        self.touched.insert(id);
        self.writes.push(LedgerWrite::Delete(ledger::counters_key(id)));
        let nothing = bytes::Bytes::new();
        self.writes.push(LedgerWrite::Put(ledger::dropped_key(id), nothing));
        Ok(done(vec![Step::DropMailbox(id)]))
    }

    pub(super) fn rename(
        &mut self,
        from: &MailboxName,
        to: &MailboxName,
        context: &mut Context<'_>,
    ) -> Result<Planned, StoreError> {
        if self.account.find(from).is_none() {
            return Err(not_found(from));
        }
        if self.account.find(to).is_some() {
            return Err(StoreError::AlreadyExists(format!("mailbox {to}")));
        }
        match from.is_inbox() {
            true => self.rename_inbox(to, context),
            false => self.rename_branch(from, to, context),
        }
    }

    /// RFC 9051 §6.3.6: the messages move to the new mailbox, INBOX stays, and so does what lies
    /// below it.
    fn rename_inbox(
        &mut self,
        to: &MailboxName,
        context: &mut Context<'_>,
    ) -> Result<Planned, StoreError> {
        let before = self.clone();
        let mut planned = self.create(to, None, context)?;
        let inbox = self.account.find(&MailboxName::inbox()).expect("found by the caller").row.id;
        let moved = MoveMessages {
            from: inbox,
            uids: UidSet::range(crate::types::Uid::MIN, crate::types::Uid::MAX),
            to: to.clone(),
            done: None,
            rename: true,
        };
        match self.move_messages(&moved, context) {
            Ok(more) => {
                planned.steps.extend(more.steps);
                Ok(Planned { steps: planned.steps, outcome: more.outcome, rest: more.rest })
            }
            Err(error) => {
                *self = before;
                Err(error)
            }
        }
    }

    fn rename_branch(
        &mut self,
        from: &MailboxName,
        to: &MailboxName,
        context: &mut Context<'_>,
    ) -> Result<Planned, StoreError> {
        if to.is_below(from) {
            return Err(StoreError::Invalid(format!("{to} lies below {from}")));
        }
        let rows = self.renamed(from, to)?;
        let missing = self.missing_above(to);
        let mut steps = Vec::new();
        if !missing.is_empty() {
            steps.push(Step::InsertMailboxes(self.make(missing, context)?));
        }
        for row in &rows {
            let mut mailbox =
                self.account.mailbox(row.id).expect("one of its own").as_ref().clone();
            mailbox.row = row.clone();
            self.account.put(mailbox);
        }
        self.changed = true;
        steps.push(Step::UpdateMailboxes(rows));
        Ok(done(steps))
    }

    /// The rows of a mailbox and those below it under their new names.
    fn renamed(&self, from: &MailboxName, to: &MailboxName) -> Result<Vec<MailboxRow>, StoreError> {
        let mut rows = Vec::new();
        for mailbox in self.account.by_name() {
            let Some(name) = mailbox.row.name.moved(from, to) else { continue };
            let name = name.map_err(|error| StoreError::Invalid(error.to_string()))?;
            // What stands in the way may be about to move away itself (`a/a` renamed to `a`).
            let in_the_way = |there: &Arc<Mailbox>| there.row.name.moved(from, to).is_none();
            if self.account.find(&name).is_some_and(in_the_way) {
                return Err(StoreError::AlreadyExists(format!("mailbox {name}")));
            }
            rows.push(MailboxRow { name, ..mailbox.row.clone() });
        }
        Ok(rows)
    }

    /// Repeatable: what is as asked for already is no change.
    pub(super) fn subscribe(
        &mut self,
        name: &MailboxName,
        on: bool,
    ) -> Result<Planned, StoreError> {
        let subscribed = self.account.subscriptions();
        if subscribed.contains(name) == on {
            return Ok(done(Vec::new()));
        }
        if on && subscribed.len() >= MAX_SUBSCRIPTIONS {
            return Err(StoreError::Limit(format!("{MAX_SUBSCRIPTIONS} subscriptions")));
        }
        let key = ledger::subscription_key(name);
        self.writes.push(match on {
            true => LedgerWrite::Put(key, bytes::Bytes::new()),
            false => LedgerWrite::Delete(key),
        });
        self.account.subscribe(name, on);
        self.changed = true;
        Ok(done(Vec::new()))
    }
}
