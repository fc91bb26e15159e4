//! The smallest complete store: the records of a kind (the messages of a mailbox) are one value. It
//! loads the list into memory, changes it and writes it back, so it is for small tables and for
//! reading; lists above 4 MiB are refused by the host.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use postroom_guest::check::{Judge, Mend, Problem, Verdict, check};
use postroom_guest::codec::{Encode, from_row, to_row};
use postroom_guest::{
    Call, CheckAsk, CheckPage, Found, Id, Item, MaybeSend, MaybeSync, Message, MessageChange,
    MessagePlace, Messages, New, NewMessage, Page, PageAsk, Record, Records, Result, StoreError,
    Txn, View, cursor,
};

/// Schema of every value: its first octet.
const SCHEMA: u8 = 1;
/// Lists looked at in one call of check: one may have 4 MiB.
const CHECK_LISTS: u32 = 1;
/// The key of the only value of a kind.
const ALL: &[u8] = b"all";
/// What a check says of a message that cannot be fetched.
const LOST: &str = "its body is missing";

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

/// Judges lists of `R`: each can be read.
struct List<R>(PhantomData<R>);

/// Judges lists of messages: each can be read, and every message has its body.
struct Mailbox;

/// The rows of a list; a verdict where it cannot be read.
async fn readable<V: View, R: Encode>(view: &V, key: &[u8]) -> Result<Readable<R>> {
    match load(view, key).await {
        Ok(rows) => Ok(Ok(rows)),
        Err(StoreError::Damaged(problem)) => {
            let (name, mend) = (cursor::encode(key), Mend::Remove(vec![key.to_vec()]));
            Ok(Err(vec![Problem { name, problem, mend }].into()))
        }
        Err(error) => Err(error),
    }
}

type Readable<R> = std::result::Result<Vec<R>, Verdict>;

impl<R: Encode + MaybeSend + MaybeSync> Judge for List<R> {
    async fn judge<V: View>(&self, view: &V, (key, _): &Item) -> Result<Verdict> {
        let sound = |rows: Vec<R>| Verdict { records: rows.len() as u64, ..Verdict::default() };
        Ok(readable(view, key).await?.map_or_else(|verdict| verdict, sound))
    }
}

impl Judge for Mailbox {
    async fn judge<V: View>(&self, view: &V, (key, _): &Item) -> Result<Verdict> {
        let rows: Vec<Message> = match readable(view, key).await? {
            Ok(rows) => rows,
            Err(verdict) => return Ok(verdict),
        };
        let (records, mut kept, mut lost) = (rows.len() as u64, Vec::new(), Vec::new());
        for row in rows {
            match view.get_body(row.name.clone()).await? {
                Some(_) => kept.push(row),
                None => lost.push(row.place().to_string()),
            }
        }
        let mend = match kept.is_empty() {
            true => Mend::Remove(vec![key.clone()]),
            false => Mend::Put(key.clone(), to_row(SCHEMA, &kept)),
        };
        let problem = |name| Problem { name, problem: LOST.to_owned(), mend: mend.clone() };
        let problems = lost.into_iter().map(problem).collect();
        Ok(Verdict { records, problems, migrated: None })
    }
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

    async fn select<V: View>(&self, _: &Call, view: &V, names: Vec<R::Name>) -> Result<Found<R>> {
        let all: Vec<R> = load(view, ALL).await?;
        let find = |name| all.iter().find(|row| row.name() == name).cloned();
        Ok(names.into_iter().map(find).collect())
    }

    async fn list<V: View>(&self, _: &Call, view: &V, ask: PageAsk<R::Name>) -> Result<Page<R>> {
        let mut all: Vec<R> = load(view, ALL).await?;
        all.retain(|row| Some(row.name()) > ask.after);
        Ok(page(all, ask.limit))
    }

    async fn check<T: Txn>(&self, _: &Call, txn: &T, ask: CheckAsk) -> Result<CheckPage> {
        check(txn, ask, CHECK_LISTS, &List::<R>(PhantomData)).await
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

    async fn insert<T: Txn>(&self, _: &Call, txn: &T, messages: New<T>) -> Result<()> {
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

    async fn update<T: Txn>(&self, _: &Call, txn: &T, changes: Vec<MessageChange>) -> Result<()> {
        let changes: BTreeMap<_, _> = changes.into_iter().map(|one| (one.place, one)).collect();
        let apply = |_, all: &mut Vec<Message>| {
            for row in all {
                if let Some(new) = changes.get(&row.place()) {
                    row.change(new.clone());
                }
            }
        };
        change(txn, changes.keys().map(|place| place.mailbox).collect(), apply).await
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
    ) -> Result<Found<Message>> {
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
        ask: PageAsk<u32>,
    ) -> Result<Page<Message>> {
        let mut all: Vec<Message> = load(view, &mailbox.octets()).await?;
        all.retain(|row| Some(row.uid) > ask.after);
        Ok(page(all, ask.limit))
    }

    async fn check<T: Txn>(&self, _: &Call, txn: &T, ask: CheckAsk) -> Result<CheckPage> {
        check(txn, ask, CHECK_LISTS, &Mailbox).await
    }
}
