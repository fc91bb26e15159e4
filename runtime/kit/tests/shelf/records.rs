//! A shelf of domains, users or mailboxes.

use std::cell::Cell;

use postroom_kit::records::{CheckPage, Domain, Mailbox, Page, Property, User};
use postroom_kit::{RecordSubject, Result, Sample, StoreError};

use super::{Flaw, SOME, Shelf, State, Txn, answer_is_small, cut, sound, unsupported};

/// Longest key that is kept whole, where cutting is the flaw.
const SHORT: usize = 100;

/// A kind of record, with what flaws do to it.
pub trait Shelved: Sample {
    /// Keeps a field of the row that is replaced.
    fn keep_a_field(&mut self, old: &Self);
    /// Its properties.
    fn extra(&mut self) -> &mut Vec<Property>;
    /// A text of it.
    fn text(&mut self) -> &mut String;
    /// The names of such records that texts order in another way than the WIT: a key of theirs.
    fn as_text(name: &Self::Name) -> String;
}

impl Shelved for Domain {
    fn keep_a_field(&mut self, old: &Self) {
        self.alias_of.clone_from(&old.alias_of);
    }

    fn extra(&mut self) -> &mut Vec<Property> {
        &mut self.extra
    }

    fn text(&mut self) -> &mut String {
        &mut self.name
    }

    fn as_text(name: &String) -> String {
        name.replace('-', "")
    }
}

impl Shelved for User {
    fn keep_a_field(&mut self, old: &Self) {
        self.password.clone_from(&old.password);
    }

    fn extra(&mut self) -> &mut Vec<Property> {
        &mut self.extra
    }

    fn text(&mut self) -> &mut String {
        &mut self.name
    }

    fn as_text(name: &String) -> String {
        name.encode_utf16().map(|unit| format!("{unit:04x}")).collect()
    }
}

impl Shelved for Mailbox {
    fn keep_a_field(&mut self, old: &Self) {
        self.special_use.clone_from(&old.special_use);
    }

    fn extra(&mut self) -> &mut Vec<Property> {
        &mut self.extra
    }

    fn text(&mut self) -> &mut String {
        &mut self.name
    }

    fn as_text(name: &Self::Name) -> String {
        format!("{} {}", name.high as i64, name.low as i64)
    }
}

fn key<R: Shelved>(shelf: &Shelf<R>, name: &R::Name) -> Vec<u8> {
    // Names of mailboxes are ids, which are shown in their order.
    let text = if shelf.has(Flaw::OrdersAsTexts) {
        format!("{}\0{name}", R::as_text(name))
    } else {
        name.to_string()
    };
    let text = if shelf.has(Flaw::ChangesLetters) { plain(&text) } else { text };
    let most = if shelf.has(Flaw::CutsLongNames) { SHORT } else { usize::MAX };
    text.bytes().take(most).collect()
}

/// A text in composed letters, without what stands between words.
fn plain(text: &str) -> String {
    let composed = text.replace("e\u{301}", "é").replace("u\u{308}", "ü");
    composed.replace('!', "").replace("-b", "b").replace(' ', "_")
}

/// A page of records that nobody has inserted, whatever page is asked for.
fn endless<R: Sample>(limit: u32) -> Page<R> {
    thread_local!(static LAST: Cell<u32> = const { Cell::new(1_000_000) });
    let last = LAST.replace(LAST.get() + limit);
    Page { rows: (last + 1..=last + limit).map(R::sample).collect(), more: true }
}

impl<R: Shelved> Shelf<R> {
    fn as_kept(&self, mut row: R) -> R {
        if self.has(Flaw::InsertDropsProperties) {
            row.extra().clear();
        }
        if self.has(Flaw::CutsLargeRows) {
            cut(row.extra());
        }
        if self.has(Flaw::CutsLongNames) {
            row.text().truncate(SHORT);
        }
        if self.has(Flaw::ChangesLetters) {
            *row.text() = plain(row.text());
        }
        row
    }

    fn put(&self, txn: &Txn<R>, row: R) -> Result<()> {
        let (key, row) = (key(self, &row.name()), self.as_kept(row));
        self.write(txn, |state| drop(state.rows.insert(key.clone(), Some(row.clone()))))
    }

    fn answers<'a>(&self, rows: impl Iterator<Item = &'a R>) -> Result<()> {
        let octets = |row: &R| row.clone().extra().iter().map(|p| p.value.len()).sum();
        match self.has(Flaw::LargeAnswersAreALimit) {
            true => answer_is_small(rows, octets),
            false => Ok(()),
        }
    }
}

impl<R: Shelved> RecordSubject<R> for Shelf<R> {
    async fn create(&self, txn: &Txn<R>) -> Result<()> {
        match self.flaw {
            Flaw::CreateClears => self.write(txn, |state| state.rows.clear()),
            Flaw::DropNeedsCreate => self.write(txn, |state| state.dropped = false),
            _ => Ok(()),
        }
    }

    async fn drop(&self, txn: &Txn<R>) -> Result<()> {
        if self.has(Flaw::DropTwiceFails) && self.read(Some(txn)).await?.dropped {
            return Err(StoreError::NotFound("nothing to drop".into()));
        }
        self.forget_listed();
        let spared = key(self, &R::sample(7).name());
        self.write(txn, |state| {
            state.dropped = true;
            match self.has(Flaw::DropLeavesOne) {
                true => state.rows.retain(|key, _| *key == spared),
                false => state.rows.clear(),
            }
        })
    }

    async fn insert(&self, txn: &Txn<R>, mut rows: Vec<R>) -> Result<()> {
        if rows.is_empty() && self.has(Flaw::EmptyInsertFails) {
            return Err(StoreError::Invalid("no rows".into()));
        }
        if self.has(Flaw::WritesAreUnsupported) || self.has(Flaw::AllWritesButDeleteAreUnsupported)
        {
            return unsupported();
        }
        let State { rows: there, dropped, .. } = self.read(Some(txn)).await?;
        if dropped && self.has(Flaw::DropNeedsCreate) {
            return Err(StoreError::NotFound("nothing to insert into".into()));
        }
        let taken = |row: &R| there.contains_key(&key(self, &row.name()));
        self.forget_listed();
        if self.has(Flaw::InsertAddsSomeBeforeItRefuses) {
            for row in rows {
                if taken(&row) {
                    return Err(StoreError::AlreadyExists(row.name().to_string()));
                }
                self.put(txn, row)?;
            }
            return Ok(());
        }
        let refused = rows.iter().find(|row| taken(row) && !self.has(Flaw::InsertOverwrites));
        if let Some(row) = refused {
            return Err(StoreError::AlreadyExists(row.name().to_string()));
        }
        if self.has(Flaw::InsertLosesTheLastRow) && rows.len() > 5 {
            rows.pop();
        }
        if self.has(Flaw::CallsOfManyAreCut) {
            rows.truncate(SOME);
        }
        rows.into_iter().try_for_each(|row| self.put(txn, row))
    }

    async fn update(&self, txn: &Txn<R>, rows: Vec<R>) -> Result<()> {
        let refused = [
            Flaw::WritesAreUnsupported,
            Flaw::AllWritesButDeleteAreUnsupported,
            Flaw::UpdateIsUnsupported,
        ];
        if refused.contains(&self.flaw) {
            return unsupported();
        }
        let there = self.read(Some(txn)).await?.rows;
        let missing = rows.iter().find(|row| !there.contains_key(&key(self, &row.name())));
        if let (Some(row), false) = (missing, self.has(Flaw::UpdateInserts)) {
            return Err(StoreError::NotFound(row.name().to_string()));
        }
        self.forget_listed();
        for mut row in rows {
            if self.forgets() {
                continue;
            }
            let old = sound(&there, &key(self, &row.name()))?;
            if let (Some(old), true) = (old, self.has(Flaw::UpdateKeepsAnOldField)) {
                row.keep_a_field(&old);
            }
            self.put(txn, row)?;
        }
        Ok(())
    }

    async fn delete(&self, txn: &Txn<R>, names: Vec<R::Name>) -> Result<()> {
        if self.has(Flaw::WritesAreUnsupported) {
            return unsupported();
        }
        let there = self.read(Some(txn)).await?.rows;
        self.forget_listed();
        for name in names {
            let key = key(self, &name);
            if self.has(Flaw::DeleteOfMissingFails) && !there.contains_key(&key) {
                return Err(StoreError::NotFound(name.to_string()));
            }
            if !self.has(Flaw::DeleteDeletesNothing) {
                self.write(txn, |state| drop(state.rows.remove(&key)))?;
            }
        }
        Ok(())
    }

    async fn select(
        &self,
        txn: Option<&Txn<R>>,
        mut names: Vec<R::Name>,
    ) -> Result<Vec<Option<R>>> {
        let rows = self.read(txn).await?.rows;
        if self.has(Flaw::SelectSorts) {
            names.sort();
        }
        if self.has(Flaw::SelectAnswersOnce) {
            let mut seen = std::collections::BTreeSet::new();
            names.retain(|name| seen.insert(name.clone()));
        }
        let found = names.iter().map(|name| match sound(&rows, &key(self, name))? {
            None if self.has(Flaw::SelectOfMissingFails) => {
                Err(StoreError::NotFound(name.to_string()))
            }
            found => Ok(found),
        });
        let found = found.collect::<Result<Vec<_>>>()?;
        self.answers(found.iter().flatten())?;
        Ok(found)
    }

    async fn list(
        &self,
        txn: Option<&Txn<R>>,
        after: Option<R::Name>,
        limit: u32,
    ) -> Result<Page<R>> {
        let mut after = after.map(|name| key(self, &name));
        self.shared.replace(after.clone());
        let rows = self.listed(txn).await?;
        if self.has(Flaw::CallsShareTheirArguments) {
            after = self.shared.borrow().clone();
        }
        if self.has(Flaw::ListIsUnsupported) {
            return unsupported();
        }
        if self.has(Flaw::ListNeverEnds) {
            return Ok(endless(limit));
        }
        let gone = after.as_ref().is_some_and(|after| !rows.contains_key(after));
        if gone && self.has(Flaw::ListEndsAtAGoneName) {
            return Ok(Page { rows: Vec::new(), more: false });
        }
        let behind = |key: &Vec<u8>| match &after {
            Some(after) if self.has(Flaw::ListRepeatsTheCursor) => key >= after,
            after => Some(key) > after.as_ref(),
        };
        let skip = usize::from(after.is_some() && self.has(Flaw::ListSkipsAfterTheCursor));
        let most = if self.has(Flaw::ListIgnoresTheLimit) { usize::MAX } else { limit as usize };
        let mut rest = rows.iter().filter(|(key, _)| behind(key)).skip(skip).peekable();
        let mut found = Vec::new();
        while let Some((key, row)) = rest.next_if(|_| found.len() < most) {
            found.push(row.clone().ok_or_else(|| StoreError::damaged(key.escape_ascii()))?);
        }
        self.answers(found.iter())?;
        if self.has(Flaw::ListIsInDisorder) {
            found.reverse();
        }
        let nothing = found.is_empty() && self.has(Flaw::ListSaysMoreOfNothing);
        Ok(Page { more: nothing || rest.peek().is_some(), rows: found })
    }

    async fn check(&self, txn: &Txn<R>, _: Option<String>, repair: bool) -> Result<CheckPage> {
        self.check_rows(txn, repair, |_, _| false).await
    }
}
