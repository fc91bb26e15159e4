//! A shelf of messages.

use postroom_kit::records::{CheckPage, Id, Message, MessageChange, MessagePlace, Page};
use postroom_kit::{MessageSubject, Parts, Result, StoreError};

use super::{Flaw, Shelf, State, Txn, sound};

fn key(place: MessagePlace) -> Vec<u8> {
    place.octets().to_vec()
}

impl Shelf<Message> {
    /// What a change makes of a row.
    fn changed(&self, mut row: Message, mut change: MessageChange) -> Message {
        if self.has(Flaw::UpdateLosesAFlag) && change.flags.len() > 2 {
            change.flags.pop();
        }
        if self.has(Flaw::UpdateTouchesAnotherField) {
            row.save_date += 1;
        }
        row.change(change);
        row
    }

    fn part(&self, octets: &[u8], at: u64, max: u64) -> Result<Vec<u8>> {
        let size = octets.len() as u64;
        if at > size && self.has(Flaw::FetchBehindTheEndFails) {
            return Err(StoreError::Invalid(format!("{at} lies behind {size}")));
        }
        let at = if self.has(Flaw::FetchIgnoresTheBeginning) { 0 } else { at.min(size) };
        let end = at.saturating_add(max).min(size);
        let end = if self.has(Flaw::FetchCutsTheEnd) { end.min(size - 1).max(at) } else { end };
        Ok(octets[at as usize..end as usize].to_vec())
    }
}

impl MessageSubject for Shelf<Message> {
    async fn create(&self, txn: &Txn<Message>) -> Result<()> {
        match self.has(Flaw::CreateClears) {
            true => self.write(txn, |state| state.rows.clear()),
            false => Ok(()),
        }
    }

    async fn drop(&self, txn: &Txn<Message>, mailbox: Id) -> Result<()> {
        let next = u128::from_be_bytes(mailbox.octets()).wrapping_add(1);
        let next = Id::from_u128(next);
        let also = self.has(Flaw::DropTakesTheNextMailbox);
        let of = |id: Id, key: &[u8]| key.starts_with(&id.octets());
        self.forget_listed();
        self.write(txn, |state| {
            if self.has(Flaw::DropTakesBodies) {
                state.bodies.clear();
            }
            state.rows.retain(|key, _| !(of(mailbox, key) || also && of(next, key)));
        })
    }

    async fn insert(
        &self,
        txn: &Txn<Message>,
        mut messages: Vec<(Message, Vec<u8>)>,
    ) -> Result<()> {
        if messages.is_empty() && self.has(Flaw::EmptyInsertFails) {
            return Err(StoreError::Invalid("no messages".into()));
        }
        if self.has(Flaw::InsertLosesTheLastRow) && messages.len() > 4 {
            messages.pop();
        }
        self.forget_listed();
        for (mut row, octets) in messages {
            if self.has(Flaw::InsertDropsProperties) {
                row.extra.clear();
            }
            self.write(txn, |state| {
                state.rows.insert(key(row.place()), Some(row.clone()));
                state.bodies.insert(row.name.clone(), octets.clone());
            })?;
        }
        Ok(())
    }

    async fn update(&self, txn: &Txn<Message>, changes: Vec<MessageChange>) -> Result<()> {
        let rows = self.read(Some(txn)).await?.rows;
        self.forget_listed();
        for change in changes {
            let key = key(change.place);
            let Some(row) = sound(&rows, &key)? else { continue };
            let row = self.changed(row, change);
            self.write(txn, |state| drop(state.rows.insert(key.clone(), Some(row.clone()))))?;
        }
        Ok(())
    }

    async fn delete(&self, txn: &Txn<Message>, places: Vec<MessagePlace>) -> Result<()> {
        let rows = self.read(Some(txn)).await?.rows;
        self.forget_listed();
        for key in places.into_iter().map(key) {
            let name = sound(&rows, &key)?.map(|row| row.name).unwrap_or_default();
            if self.has(Flaw::DeleteDeletesNothing) {
                continue;
            }
            self.write(txn, |state| {
                state.rows.remove(&key);
                if self.has(Flaw::DeleteTakesTheBody) {
                    state.bodies.remove(&name);
                }
            })?;
        }
        Ok(())
    }

    async fn select(
        &self,
        txn: Option<&Txn<Message>>,
        mut places: Vec<MessagePlace>,
    ) -> Result<Vec<Option<Message>>> {
        let rows = self.read(txn).await?.rows;
        if self.has(Flaw::SelectSorts) {
            places.sort();
        }
        if self.has(Flaw::SelectAnswersOnce) {
            let mut seen = std::collections::BTreeSet::new();
            places.retain(|place| seen.insert(*place));
        }
        places.into_iter().map(|place| sound(&rows, &key(place))).collect()
    }

    async fn list(
        &self,
        txn: Option<&Txn<Message>>,
        mailbox: Id,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Page<Message>> {
        let rows = self.listed(txn).await?;
        let mixed = self.has(Flaw::ListMixesMailboxes);
        let here = rows.iter().filter(|(key, _)| mixed || key.starts_with(&mailbox.octets()));
        let uid = |key: &[u8]| {
            key.get(16..20).map_or(0, |uid| u32::from_be_bytes([uid[0], uid[1], uid[2], uid[3]]))
        };
        let behind = |key: &[u8]| after.is_none_or(|after| uid(key) > after);
        let skip = usize::from(after.is_some() && self.has(Flaw::ListSkipsAfterTheCursor));
        let mut rest = here.filter(|(key, _)| behind(key)).skip(skip).peekable();
        let mut found = Vec::new();
        while let Some((key, row)) = rest.next_if(|_| found.len() < limit as usize) {
            found.push(row.clone().ok_or_else(|| StoreError::damaged(key.escape_ascii()))?);
        }
        if self.has(Flaw::ListIsInDisorder) {
            found.reverse();
        }
        Ok(Page { more: rest.peek().is_some(), rows: found })
    }

    async fn fetch(
        &self,
        txn: Option<&Txn<Message>>,
        _: Id,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<Vec<u8>>> {
        let bodies = self.read(txn).await?.bodies;
        let Some(octets) = bodies.get(&name) else { return Ok(None) };
        let mut parts = Parts::new(at, max);
        loop {
            let (at, left) = parts.next();
            if parts.add(&self.part(octets, at, left)?) {
                return Ok(Some(parts.found()));
            }
        }
    }

    async fn settle(&self, _: Id, names: Vec<String>, deleted: bool) -> Result<()> {
        let known = self.read(None).await?.bodies;
        let unknown = names.iter().find(|name| !known.contains_key(*name));
        if let (Some(name), true) = (unknown, self.has(Flaw::SettleOfUnknownFails)) {
            return Err(StoreError::NotFound(name.clone()));
        }
        for name in names.iter().filter(|_| deleted) {
            postroom_kit::Host::unlink(self, name).await?;
        }
        Ok(())
    }

    async fn check(
        &self,
        txn: &Txn<Message>,
        _: Option<String>,
        repair: bool,
    ) -> Result<CheckPage> {
        let look = !self.has(Flaw::CheckOverlooksBodies);
        let lacks = |row: &Message, state: &State<_>| look && !state.bodies.contains_key(&row.name);
        self.check_rows(txn, repair, lacks).await
    }
}
