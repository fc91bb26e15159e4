//! A shelf of users.

use postroom_kit::records::{CheckPage, Page, User};
use postroom_kit::{RecordSubject, Result, Sample, StoreError};

use super::{Flaw, Shelf, State, Txn, sound, unsupported};

/// Longest key that is kept whole, where cutting is the flaw.
const SHORT: usize = 100;

fn key(shelf: &Shelf<User>, name: &str) -> Vec<u8> {
    let most = if shelf.has(Flaw::CutsLongNames) { SHORT } else { usize::MAX };
    name.bytes().take(most).collect()
}

/// A page of users that nobody has inserted, whatever page is asked for.
fn endless(after: Option<String>, limit: u32) -> Page<User> {
    let last = after.and_then(|name| name.strip_prefix("zz")?.parse::<u32>().ok()).unwrap_or(0);
    let user = |n| User { name: format!("zz{n:08}"), ..User::sample(1) };
    Page { rows: (last + 1..=last + limit).map(user).collect(), more: true }
}

impl Shelf<User> {
    fn as_kept(&self, mut row: User) -> User {
        if self.has(Flaw::InsertDropsProperties) {
            row.extra.clear();
        }
        if self.has(Flaw::CutsLongNames) {
            row.name.truncate(SHORT);
        }
        row
    }

    fn put(&self, txn: &Txn<User>, row: User) -> Result<()> {
        let (key, row) = (key(self, &row.name), self.as_kept(row));
        self.write(txn, |state| drop(state.rows.insert(key.clone(), Some(row.clone()))))
    }
}

impl RecordSubject<User> for Shelf<User> {
    async fn create(&self, txn: &Txn<User>) -> Result<()> {
        match self.flaw {
            Flaw::CreateClears => self.write(txn, |state| state.rows.clear()),
            Flaw::DropNeedsCreate => self.write(txn, |state| state.dropped = false),
            _ => Ok(()),
        }
    }

    async fn drop(&self, txn: &Txn<User>) -> Result<()> {
        if self.has(Flaw::DropTwiceFails) && self.read(Some(txn)).await?.dropped {
            return Err(StoreError::NotFound("nothing to drop".into()));
        }
        self.forget_listed();
        self.write(txn, |state| {
            state.dropped = true;
            match self.has(Flaw::DropLeavesOne) {
                true => state.rows.retain(|key, _| key.starts_with(b"00000007")),
                false => state.rows.clear(),
            }
        })
    }

    async fn insert(&self, txn: &Txn<User>, mut rows: Vec<User>) -> Result<()> {
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
        let taken = |row: &User| there.contains_key(&key(self, &row.name));
        self.forget_listed();
        if self.has(Flaw::InsertAddsSomeBeforeItRefuses) {
            for row in rows {
                if taken(&row) {
                    return Err(StoreError::AlreadyExists(row.name));
                }
                self.put(txn, row)?;
            }
            return Ok(());
        }
        let refused = rows.iter().find(|row| taken(row) && !self.has(Flaw::InsertOverwrites));
        if let Some(row) = refused {
            return Err(StoreError::AlreadyExists(row.name.clone()));
        }
        if self.has(Flaw::InsertLosesTheLastRow) && rows.len() > 5 {
            rows.pop();
        }
        rows.into_iter().try_for_each(|row| self.put(txn, row))
    }

    async fn update(&self, txn: &Txn<User>, rows: Vec<User>) -> Result<()> {
        let refused = [
            Flaw::WritesAreUnsupported,
            Flaw::AllWritesButDeleteAreUnsupported,
            Flaw::UpdateIsUnsupported,
        ];
        if refused.contains(&self.flaw) {
            return unsupported();
        }
        let there = self.read(Some(txn)).await?.rows;
        let missing = rows.iter().find(|row| !there.contains_key(&key(self, &row.name)));
        if let (Some(row), false) = (missing, self.has(Flaw::UpdateInserts)) {
            return Err(StoreError::NotFound(row.name.clone()));
        }
        self.forget_listed();
        for mut row in rows {
            if self.has(Flaw::UpdateKeepsAnOldField) {
                row.password = sound(&there, &key(self, &row.name))?.and_then(|old| old.password);
            }
            self.put(txn, row)?;
        }
        Ok(())
    }

    async fn delete(&self, txn: &Txn<User>, names: Vec<String>) -> Result<()> {
        if self.has(Flaw::WritesAreUnsupported) {
            return unsupported();
        }
        let there = self.read(Some(txn)).await?.rows;
        self.forget_listed();
        for name in names {
            let key = key(self, &name);
            if self.has(Flaw::DeleteOfMissingFails) && !there.contains_key(&key) {
                return Err(StoreError::NotFound(name));
            }
            if !self.has(Flaw::DeleteDeletesNothing) {
                self.write(txn, |state| drop(state.rows.remove(&key)))?;
            }
        }
        Ok(())
    }

    async fn select(
        &self,
        txn: Option<&Txn<User>>,
        mut names: Vec<String>,
    ) -> Result<Vec<Option<User>>> {
        let rows = self.read(txn).await?.rows;
        if self.has(Flaw::SelectSorts) {
            names.sort();
        }
        if self.has(Flaw::SelectAnswersOnce) {
            let mut seen = std::collections::BTreeSet::new();
            names.retain(|name| seen.insert(name.clone()));
        }
        let found = names.iter().map(|name| match sound(&rows, &key(self, name))? {
            None if self.has(Flaw::SelectOfMissingFails) => Err(StoreError::NotFound(name.clone())),
            found => Ok(found),
        });
        found.collect()
    }

    async fn list(
        &self,
        txn: Option<&Txn<User>>,
        after: Option<String>,
        limit: u32,
    ) -> Result<Page<User>> {
        let rows = self.listed(txn).await?;
        if self.has(Flaw::ListIsUnsupported) {
            return unsupported();
        }
        if self.has(Flaw::ListNeverEnds) {
            return Ok(endless(after, limit));
        }
        let after = after.map(|name| key(self, &name));
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
        if self.has(Flaw::ListIsInDisorder) {
            found.reverse();
        }
        let nothing = found.is_empty() && self.has(Flaw::ListSaysMoreOfNothing);
        Ok(Page { more: nothing || rest.peek().is_some(), rows: found })
    }

    async fn check(&self, txn: &Txn<User>, _: Option<String>, repair: bool) -> Result<CheckPage> {
        self.check_rows(txn, repair, |_, _| false).await
    }
}
