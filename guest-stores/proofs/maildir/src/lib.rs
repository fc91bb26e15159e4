//! Messages as files of a Maildir: a proof that a store whose medium is outside the host can keep the
//! promises of `postroom:store/messages`.
//!
//! Rows are in the host's storage, in one list a mailbox. Octets are in a directory that was granted
//! as `/mail`: one Maildir for each mailbox, named by its id. `insert` writes `tmp/NAME`, which no
//! mail program looks at; `settle`, after the commit, moves it to `cur/NAME:2,FLAGS`, renames it when
//! flags have changed, and removes it when the row is gone. An operation that came to nothing leaves
//! a file in `tmp`, where Maildir programs clean up by age; as nothing in the host's storage names it,
//! no read shows it.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use postroom_guest::check::{Judge, Mend, Problem, Verdict, check};
use postroom_guest::codec::{from_row, to_row};
use postroom_guest::{
    Body, Call, CheckAsk, CheckPage, Found, Id, Item, MaybeSync, Message, MessageChange,
    MessagePlace, Messages, New, NewMessage, Page, PageAsk, Part, Result, StoreError, Txn, View,
    encode_fields,
};

use files::Maildir;

/// Schema of every row: its first octet.
const SCHEMA: u8 = 1;
/// Octets taken from a body, or from a file, at a time.
const CHUNK: u32 = 1 << 20;

/// The store.
#[derive(Clone, Debug)]
pub struct Store {
    /// The granted directory.
    pub root: PathBuf,
}

impl Default for Store {
    fn default() -> Self {
        Self { root: "/mail".into() }
    }
}

postroom_guest::export! {
    Store: messages;
    manifest: {
        "schema": { "reads": [1, 1], "writes": 1 },
        "medium": "outside",
        "asks": { "directories": [{ "name": "mail", "write": true }] }
    }
}

type Rows = BTreeMap<u32, Message>;

/// What the host's storage has of a mailbox.
#[derive(Debug, Default)]
struct Kept {
    rows: Vec<Message>,
    /// Names of messages that are deleted, as long as they have files: they may still be read.
    gone: Vec<String>,
}

encode_fields!(Kept { rows, gone });

async fn load<V: View>(view: &V, mailbox: Id) -> Result<Kept> {
    let values = view.get_many(vec![mailbox.octets().to_vec()]).await?;
    let Some(value) = values.into_iter().next().flatten() else { return Ok(Kept::default()) };
    from_row(SCHEMA, &value, || format!("mailbox {mailbox}"))
}

async fn load_rows<V: View>(view: &V, mailbox: Id) -> Result<Rows> {
    let kept = load(view, mailbox).await?;
    Ok(kept.rows.into_iter().map(|row| (row.uid, row)).collect())
}

impl Store {
    fn maildir(&self, mailbox: Id) -> Maildir {
        Maildir::new(self.root.join(mailbox.to_string()))
    }

    /// Changes the rows of some mailboxes, each loaded and written once.
    async fn change<T: Txn>(
        &self,
        txn: &T,
        mailboxes: BTreeSet<Id>,
        edit: impl Fn(Id, &mut Rows) + MaybeSync,
    ) -> Result<()> {
        for mailbox in mailboxes {
            let Kept { rows, gone } = load(&txn.view(), mailbox).await?;
            let before = rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
            let mut rows = rows.into_iter().map(|row| (row.uid, row)).collect();
            edit(mailbox, &mut rows);
            let there: BTreeSet<_> = rows.values().map(|row| &row.name).collect();
            let (mut kept, maildir) = (Vec::new(), self.maildir(mailbox));
            for name in gone.into_iter().chain(before).filter(|name| !there.contains(name)) {
                if maildir.size(&name)?.is_some() {
                    kept.push(name);
                }
            }
            let kept = Kept { rows: rows.into_values().collect(), gone: kept };
            txn.put(mailbox.octets().to_vec(), to_row(SCHEMA, &kept))?;
        }
        Ok(())
    }
}

impl Messages for Store {
    async fn drop<T: Txn>(&self, _: &Call, txn: &T, mailbox: Id) -> Result<()> {
        self.change(txn, [mailbox].into(), |_, all| all.clear()).await
    }

    async fn insert<T: Txn>(&self, _: &Call, txn: &T, messages: New<T>) -> Result<()> {
        let mut rows = Vec::new();
        for NewMessage { row, body } in messages {
            let mut file = self.maildir(row.mailbox).create(&row.name)?;
            let mut at = 0;
            while at < body.size() {
                let octets = body.read(at, CHUNK).await?;
                at += octets.len() as u64;
                file.write(&octets)?;
            }
            file.finish()?;
            rows.push(row);
        }
        let add = |mailbox, all: &mut Rows| {
            let these = rows.iter().filter(|row| row.mailbox == mailbox);
            all.extend(these.map(|row| (row.uid, row.clone())));
        };
        self.change(txn, rows.iter().map(|row| row.mailbox).collect(), add).await
    }

    async fn update<T: Txn>(&self, _: &Call, txn: &T, changes: Vec<MessageChange>) -> Result<()> {
        let apply = |mailbox, all: &mut Rows| {
            for change in changes.iter().filter(|change| change.place.mailbox == mailbox) {
                all.entry(change.place.uid).and_modify(|row| row.change(change.clone()));
            }
        };
        self.change(txn, changes.iter().map(|one| one.place.mailbox).collect(), apply).await
    }

    async fn delete<T: Txn>(&self, _: &Call, txn: &T, places: Vec<MessagePlace>) -> Result<()> {
        let places: BTreeSet<_> = places.into_iter().collect();
        let remove = |mailbox, all: &mut Rows| {
            all.retain(|uid, _| !places.contains(&MessagePlace { mailbox, uid: *uid }));
        };
        self.change(txn, places.iter().map(|place| place.mailbox).collect(), remove).await
    }

    async fn select<V: View>(
        &self,
        _: &Call,
        view: &V,
        places: Vec<MessagePlace>,
    ) -> Result<Found<Message>> {
        let mut mailboxes = BTreeMap::new();
        for mailbox in places.iter().map(|place| place.mailbox).collect::<BTreeSet<_>>() {
            mailboxes.insert(mailbox, load_rows(view, mailbox).await?);
        }
        Ok(places.iter().map(|at| mailboxes[&at.mailbox].get(&at.uid).cloned()).collect())
    }

    async fn list<V: View>(
        &self,
        _: &Call,
        view: &V,
        mailbox: Id,
        ask: PageAsk<u32>,
    ) -> Result<Page<Message>> {
        let all = load_rows(view, mailbox).await?;
        let mut rest = all.into_values().filter(|row| Some(row.uid) > ask.after);
        let rows = rest.by_ref().take(ask.limit as usize).collect();
        Ok(Page { rows, more: rest.next().is_some() })
    }

    async fn fetch<V: View>(
        &self,
        _: &Call,
        view: &V,
        mailbox: Id,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<Part<V::Body>>> {
        let (max, maildir) = (max.min(u64::from(CHUNK)), self.maildir(mailbox));
        if !maildir.is_settled(&name)? {
            let Kept { rows, gone } = load(view, mailbox).await?;
            let mut names = rows.iter().map(|row| &row.name).chain(&gone);
            if !names.any(|known| *known == name) {
                return Ok(None);
            }
        }
        Ok(maildir.read(&name, at, max)?.map(Part::Octets))
    }

    async fn settle<V: View>(
        &self,
        _: &Call,
        view: &V,
        mailbox: Id,
        names: Vec<String>,
    ) -> Result<()> {
        let rows = load_rows(view, mailbox).await?;
        let flags: BTreeMap<_, _> = rows.values().map(|row| (&row.name, &row.flags)).collect();
        let maildir = self.maildir(mailbox);
        for name in &names {
            match flags.get(name) {
                Some(flags) => maildir.put_in_place(name, flags)?,
                None => maildir.remove(name)?,
            }
        }
        maildir.sync()
    }

    /// One mailbox a call.
    async fn check<T: Txn>(&self, _: &Call, txn: &T, ask: CheckAsk) -> Result<CheckPage> {
        check(txn, ask, 1, self).await
    }
}

/// The rows of a mailbox can be read, are its own, and each has its file.
impl Judge for Store {
    async fn judge<V: View>(&self, view: &V, (key, _): &Item) -> Result<Verdict> {
        let problem = |name: String, problem: &str, mend| {
            Verdict::from(vec![Problem { name, problem: problem.to_owned(), mend }])
        };
        let remove = Mend::Remove(vec![key.clone()]);
        let Ok(octets) = <[u8; 16]>::try_from(key.as_slice()) else {
            return Ok(problem(key.escape_ascii().to_string(), "is no mailbox", remove));
        };
        let mailbox = Id::from_octets(octets);
        let mut kept = match load(view, mailbox).await {
            Ok(kept) => kept,
            Err(StoreError::Damaged(text)) => {
                return Ok(problem(mailbox.to_string(), &text, remove));
            }
            Err(error) => return Err(error),
        };
        let (maildir, mut lost) = (self.maildir(mailbox), Vec::new());
        for row in &kept.rows {
            if row.mailbox != mailbox || maildir.size(&row.name)? != Some(row.size) {
                lost.push(row.uid);
            }
        }
        if lost.is_empty() {
            return Ok(Verdict {
                records: kept.rows.len() as u64,
                problems: Vec::new(),
                migrated: None,
            });
        }
        kept.rows.retain(|row| !lost.contains(&row.uid));
        let text = format!("messages {lost:?} have no file, or one of another size");
        let mend = Mend::Put(key.clone(), to_row(SCHEMA, &kept));
        Ok(problem(mailbox.to_string(), &text, mend))
    }
}
