//! The smallest complete store: the records of a kind (the messages of a mailbox) are one value. It
//! loads the list into memory, changes it and writes it back, so it is for small tables and for
//! reading; lists above 4 MiB are refused by the host.

use std::collections::{BTreeMap, BTreeSet};

use postroom_guest::codec::{Encode, from_row, to_row};
use postroom_guest::{
    Call, CheckPage, Finding, Id, MAX_OCTETS, MaybeSync, Message, MessagePlace, Messages,
    NewMessage, Page, Record, Records, Result, StoreError, Txn, View, cursor, key_after,
};

/// Schema of every value: its first octet.
const SCHEMA: u8 = 1;
/// The key of the only value of a kind.
const ALL: &[u8] = b"all";

/// The store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory;

postroom_guest::export! {
    Memory: domains, users, mailboxes, messages;
    manifest: { "schema": { "reads": [1, 1], "writes": 1 }, "medium": "host", "asks": {} }
}

async fn load<V: View, T: Encode>(view: &V, key: &[u8]) -> Result<Vec<T>> {
    match view.get_many(vec![key.to_vec()]).await?.into_iter().next().flatten() {
        Some(value) => from_row(SCHEMA, &value, || format!("list {}", key.escape_ascii())),
        None => Ok(Vec::new()),
    }
}

fn save<T: Txn, R: Encode, N: Ord>(
    txn: &T,
    key: &[u8],
    mut rows: Vec<R>,
    by: impl Fn(&R) -> N,
) -> Result<()> {
    rows.sort_by_key(by);
    match rows.is_empty() {
        true => Ok(txn.delete(key.to_vec())?),
        false => Ok(txn.put(key.to_vec(), to_row(SCHEMA, &rows))?),
    }
}

fn page<R>(mut rows: Vec<R>, limit: u32) -> Page<R> {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    Page { rows, more }
}

/// Checks one list in each call, those of `T`.
async fn check<T: Txn, R: Encode>(
    txn: &T,
    after: Option<String>,
    repair: bool,
) -> Result<CheckPage> {
    let start = after.map_or(Ok(Vec::new()), |text| cursor::decode(&text).map(key_after))?;
    let page = txn.view().scan(start, None, 1, MAX_OCTETS).await?;
    let mut result = CheckPage::empty();
    for (key, _) in &page.items {
        match load::<_, R>(&txn.view(), key).await {
            Ok(rows) => result.checked += rows.len() as u64,
            Err(problem) => {
                let finding = Finding::new(key.escape_ascii(), problem.text());
                result.findings.push(Finding { repaired: repair, ..finding });
                if repair {
                    txn.delete(key.clone())?;
                }
            }
        }
    }
    result.next = page.items.last().filter(|_| page.more).map(|(key, _)| cursor::encode(key));
    Ok(result)
}

impl<R: Record> Records<R> for Memory {
    async fn drop<T: Txn>(&self, _: &Call, txn: &T) -> Result<()> {
        Ok(txn.delete(ALL.to_vec())?)
    }

    async fn insert<T: Txn>(&self, _: &Call, txn: &T, rows: Vec<R>) -> Result<()> {
        let mut all: Vec<R> = load(&txn.view(), ALL).await?;
        match rows.iter().find(|new| all.iter().any(|old| old.name() == new.name())) {
            Some(row) => Err(StoreError::AlreadyExists(row.name().to_string())),
            None => {
                all.extend(rows);
                save(txn, ALL, all, R::name)
            }
        }
    }

    async fn update<T: Txn>(&self, _: &Call, txn: &T, rows: Vec<R>) -> Result<()> {
        let mut all: Vec<R> = load(&txn.view(), ALL).await?;
        for row in rows {
            let name = row.name();
            let old = all.iter_mut().find(|old| old.name() == name);
            *old.ok_or_else(|| StoreError::NotFound(name.to_string()))? = row;
        }
        save(txn, ALL, all, R::name)
    }

    async fn delete<T: Txn>(&self, _: &Call, txn: &T, names: Vec<R::Name>) -> Result<()> {
        let mut all: Vec<R> = load(&txn.view(), ALL).await?;
        all.retain(|row| !names.contains(&row.name()));
        save(txn, ALL, all, R::name)
    }

    async fn select<V: View>(
        &self,
        _: &Call,
        view: &V,
        names: Vec<R::Name>,
    ) -> Result<Vec<Option<R>>> {
        let all: Vec<R> = load(view, ALL).await?;
        let find = |name| all.iter().find(|row| row.name() == name).cloned();
        Ok(names.into_iter().map(find).collect())
    }

    async fn list<V: View>(
        &self,
        _: &Call,
        view: &V,
        after: Option<R::Name>,
        limit: u32,
    ) -> Result<Page<R>> {
        let mut all: Vec<R> = load(view, ALL).await?;
        all.retain(|row| Some(row.name()) > after);
        Ok(page(all, limit))
    }

    async fn check<T: Txn>(
        &self,
        _: &Call,
        txn: &T,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage> {
        check::<T, R>(txn, after, repair).await
    }
}

/// Changes the messages of some mailboxes, each loaded and written once.
async fn change<T: Txn>(
    txn: &T,
    mailboxes: BTreeSet<Id>,
    edit: impl Fn(Id, &mut Vec<Message>) + MaybeSync,
) -> Result<()> {
    for mailbox in mailboxes {
        let mut all = load(&txn.view(), &mailbox.octets()).await?;
        edit(mailbox, &mut all);
        save(txn, &mailbox.octets(), all, Message::place)?;
    }
    Ok(())
}

impl Messages for Memory {
    async fn drop<T: Txn>(&self, _: &Call, txn: &T, mailbox: Id) -> Result<()> {
        Ok(txn.delete(mailbox.octets().to_vec())?)
    }

    async fn insert<T: Txn>(
        &self,
        _: &Call,
        txn: &T,
        messages: Vec<NewMessage<T::Body>>,
    ) -> Result<()> {
        let mut rows = Vec::new();
        for NewMessage { row, body } in messages {
            txn.put_body(row.name.clone(), body)?;
            rows.push(row);
        }
        let add = |mailbox, all: &mut Vec<Message>| {
            all.extend(rows.iter().filter(|row| row.mailbox == mailbox).cloned());
        };
        change(txn, rows.iter().map(|row| row.mailbox).collect(), add).await
    }

    async fn update<T: Txn>(&self, _: &Call, txn: &T, rows: Vec<Message>) -> Result<()> {
        let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.place(), row)).collect();
        let replace = |_, all: &mut Vec<Message>| {
            for old in all {
                if let Some(new) = rows.get(&old.place()) {
                    *old = new.clone();
                }
            }
        };
        change(txn, rows.keys().map(|place| place.mailbox).collect(), replace).await
    }

    async fn delete<T: Txn>(&self, _: &Call, txn: &T, places: Vec<MessagePlace>) -> Result<()> {
        let places: BTreeSet<_> = places.into_iter().collect();
        let remove = |_, all: &mut Vec<Message>| all.retain(|row| !places.contains(&row.place()));
        change(txn, places.iter().map(|place| place.mailbox).collect(), remove).await
    }

    async fn select<V: View>(
        &self,
        _: &Call,
        view: &V,
        places: Vec<MessagePlace>,
    ) -> Result<Vec<Option<Message>>> {
        let mut found = BTreeMap::new();
        for mailbox in places.iter().map(|place| place.mailbox).collect::<BTreeSet<_>>() {
            let all: Vec<Message> = load(view, &mailbox.octets()).await?;
            found.extend(all.into_iter().map(|row| (row.place(), row)));
        }
        Ok(places.iter().map(|place| found.get(place).cloned()).collect())
    }

    async fn list<V: View>(
        &self,
        _: &Call,
        view: &V,
        mailbox: Id,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Page<Message>> {
        let mut all: Vec<Message> = load(view, &mailbox.octets()).await?;
        all.retain(|row| Some(row.uid) > after);
        Ok(page(all, limit))
    }

    async fn check<T: Txn>(
        &self,
        _: &Call,
        txn: &T,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage> {
        check::<T, Message>(txn, after, repair).await
    }
}
