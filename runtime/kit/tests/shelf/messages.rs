//! A shelf of messages.

use postroom_kit::records::{CheckPage, Id, Message, MessageChange, MessagePlace, Page};
use postroom_kit::{MessageSubject, Parts, Result, StoreError};

use super::{Flaw, SOME, Shelf, State, Txn, answer_is_small, cut, sound};

/// Octets of a row, nearly.
fn octets(row: &Message) -> usize {
    row.to.iter().map(String::len).sum()
}

fn key(place: MessagePlace) -> Vec<u8> {
    place.octets().to_vec()
}

impl Shelf<Message> {
    /// The name of a body as it is kept.
    fn as_kept(&self, name: &str) -> String {
        match self.has(Flaw::ChangesLetters) {
            true => name.to_ascii_lowercase(),
            false => name.to_owned(),
        }
    }

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
        if self.has(Flaw::DropOfUnknownFails) {
            let rows = self.read(Some(txn)).await?.rows;
            if !rows.keys().any(|key| of(mailbox, key)) {
                return Err(StoreError::NotFound(mailbox.to_string()));
            }
        }
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
        if self.has(Flaw::CallsOfManyAreCut) {
            messages.truncate(SOME);
        }
        self.forget_listed();
        for (mut row, octets) in messages {
            let again = !self.seen.borrow_mut().insert(row.name.clone());
            if again && self.has(Flaw::InsertTwiceFails) {
                return Err(StoreError::AlreadyExists(row.name));
            }
            if self.has(Flaw::InsertNeedsAMailbox) {
                return Err(StoreError::NotFound(row.mailbox.to_string()));
            }
            if self.has(Flaw::InsertDropsProperties) {
                row.extra.clear();
            }
            if self.has(Flaw::CutsLargeRows) {
                cut(&mut row.extra);
            }
            if self.has(Flaw::FetchShowsOrphans) {
                self.outside.borrow_mut().insert(row.name.clone(), octets.clone());
            }
            let link = match self.has(Flaw::LinksUnderAnotherName) {
                true => format!("{}~", row.name),
                false => row.name.clone(),
            };
            let name = self.as_kept(&row.name);
            self.write(txn, |state| {
                state.rows.insert(key(row.place()), Some(row.clone()));
                state.bodies.insert(link.clone(), octets.clone());
                state.bodies.insert(name.clone(), octets.clone());
            })?;
        }
        Ok(())
    }

    async fn update(&self, txn: &Txn<Message>, changes: Vec<MessageChange>) -> Result<()> {
        let rows = self.read(Some(txn)).await?.rows;
        self.forget_listed();
        for change in changes {
            let key = key(change.place);
            let Some(row) = sound(&rows, &key)?.filter(|_| !self.forgets()) else { continue };
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
            if self.has(Flaw::DeleteReachesOutside) {
                self.committed.borrow_mut().bodies.remove(&name);
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
        let found = places.into_iter().map(|place| match sound(&rows, &key(place))? {
            None if self.has(Flaw::SelectOfMissingFails) => {
                Err(StoreError::NotFound(place.to_string()))
            }
            found => Ok(found),
        });
        let found = found.collect::<Result<Vec<_>>>()?;
        if self.has(Flaw::LargeAnswersAreALimit) {
            answer_is_small(found.iter().flatten(), octets)?;
        }
        Ok(found)
    }

    async fn list(
        &self,
        txn: Option<&Txn<Message>>,
        mailbox: Id,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Page<Message>> {
        let mut after = after;
        self.shared.replace(after.map(|uid| uid.to_be_bytes().to_vec()));
        let rows = self.listed(txn).await?;
        if self.has(Flaw::CallsShareTheirArguments) {
            let shared = self.shared.borrow().clone();
            after = shared.map(|uid| u32::from_be_bytes([uid[0], uid[1], uid[2], uid[3]]));
        }
        let mixed = self.has(Flaw::ListMixesMailboxes);
        let here = rows.iter().filter(|(key, _)| mixed || key.starts_with(&mailbox.octets()));
        let uid = |key: &[u8]| {
            key.get(16..20).map_or(0, |uid| u32::from_be_bytes([uid[0], uid[1], uid[2], uid[3]]))
        };
        let is_there = |uid: u32| rows.contains_key(&key(MessagePlace { mailbox, uid }));
        if after.is_some_and(|uid| !is_there(uid)) && self.has(Flaw::ListEndsAtAGoneName) {
            return Ok(Page { rows: Vec::new(), more: false });
        }
        let behind = |key: &[u8]| after.is_none_or(|after| uid(key) > after);
        let most = if self.has(Flaw::ListIgnoresTheLimit) { usize::MAX } else { limit as usize };
        let skip = usize::from(after.is_some() && self.has(Flaw::ListSkipsAfterTheCursor));
        let mut rest = here.filter(|(key, _)| behind(key)).skip(skip).peekable();
        let mut found = Vec::new();
        while let Some((key, row)) = rest.next_if(|_| found.len() < most) {
            found.push(row.clone().ok_or_else(|| StoreError::damaged(key.escape_ascii()))?);
        }
        if self.has(Flaw::LargeAnswersAreALimit) {
            answer_is_small(found.iter(), octets)?;
        }
        if self.has(Flaw::ListIsInDisorder) {
            found.reverse();
        }
        let nothing = found.is_empty() && self.has(Flaw::ListSaysMoreOfNothing);
        Ok(Page { more: nothing || rest.peek().is_some(), rows: found })
    }

    async fn fetch(
        &self,
        txn: Option<&Txn<Message>>,
        _: Id,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<Vec<u8>>> {
        let mut bodies = self.read(txn).await?.bodies;
        bodies.append(&mut self.outside.borrow().clone());
        let Some(octets) = bodies.get(&self.as_kept(&name)) else {
            return match self.has(Flaw::FetchOfMissingFails) {
                true => Err(StoreError::NotFound(name)),
                false => Ok(None),
            };
        };
        let mut parts = Parts::new(at, max);
        loop {
            let (at, left) = parts.next();
            if parts.add(&self.part(octets, at, left)?) {
                return Ok(Some(parts.found()));
            }
        }
    }

    async fn settle(&self, _: Id, names: Vec<String>, deleted: bool) -> Result<()> {
        if self.has(Flaw::SettleIsUnsupported) {
            return super::unsupported();
        }
        let resumed = names.iter().any(|name| !self.settling.borrow_mut().insert(name.clone()));
        if resumed && self.has(Flaw::SettleCannotBeResumed) {
            return Err(StoreError::Invalid("it is being settled".into()));
        }
        let known = self.read(None).await?.bodies;
        self.settling.borrow_mut().clear();
        let unknown = names.iter().find(|name| !known.contains_key(*name));
        if let (Some(name), true) = (unknown, self.has(Flaw::SettleOfUnknownFails)) {
            return Err(StoreError::NotFound(name.clone()));
        }
        for name in names.iter().filter(|_| deleted) {
            let gone = known.get(&self.as_kept(name));
            let alike = known.iter().filter(|(_, octets)| Some(*octets) == gone);
            for (other, _) in alike.filter(|_| self.has(Flaw::BodiesAreOneByTheirOctets)) {
                postroom_kit::Host::unlink(self, other).await?;
            }
            self.outside.borrow_mut().remove(name);
            postroom_kit::Host::unlink(self, &self.as_kept(name)).await?;
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
        let lacks = |row: &Message, state: &State<_>| {
            look && !state.bodies.contains_key(&self.as_kept(&row.name))
        };
        self.check_rows(txn, repair, lacks).await
    }
}
