//! Messages as files of a Maildir: a proof that a store whose medium is outside the host can keep the
//! promises of `postroom:store/messages`.
//!
//! Rows are in the host's storage, in one list a mailbox. Octets are in a directory that was granted
//! as `/mail`: one Maildir for each mailbox, named by its id. `insert` writes `tmp/NAME`, which no
//! mail program looks at; `settle`, after the commit, moves it to `cur/NAME:2,FLAGS`, renames it when
//! flags have changed, and removes it when the row is gone. An operation that came to nothing leaves
//! a file in `tmp`, where Maildir programs clean up by age.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use postroom_guest::codec::{from_row, to_row};
use postroom_guest::{
    Body, Call, CheckPage, Finding, Id, MAX_OCTETS, MaybeSync, Message, MessagePlace, Messages,
    NewMessage, Page, Part, Result, StoreError, Txn, View, cursor, key_after,
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

async fn load<V: View>(view: &V, mailbox: Id) -> Result<Rows> {
    let values = view.get_many(vec![mailbox.octets().to_vec()]).await?;
    let Some(value) = values.into_iter().next().flatten() else { return Ok(Rows::new()) };
    let rows: Vec<Message> = from_row(SCHEMA, &value, || format!("mailbox {mailbox}"))?;
    Ok(rows.into_iter().map(|row| (row.uid, row)).collect())
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
            let mut rows = load(&txn.view(), mailbox).await?;
            edit(mailbox, &mut rows);
            let rows: Vec<Message> = rows.into_values().collect();
            txn.put(mailbox.octets().to_vec(), to_row(SCHEMA, &rows))?;
        }
        Ok(())
    }
}

impl Messages for Store {
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

    async fn update<T: Txn>(&self, _: &Call, txn: &T, rows: Vec<Message>) -> Result<()> {
        let replace = |mailbox, all: &mut Rows| {
            for row in rows.iter().filter(|row| row.mailbox == mailbox) {
                all.entry(row.uid).and_modify(|old| *old = row.clone());
            }
        };
        self.change(txn, rows.iter().map(|row| row.mailbox).collect(), replace).await
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
    ) -> Result<Vec<Option<Message>>> {
        let mut mailboxes = BTreeMap::new();
        for mailbox in places.iter().map(|place| place.mailbox).collect::<BTreeSet<_>>() {
            mailboxes.insert(mailbox, load(view, mailbox).await?);
        }
        Ok(places.iter().map(|at| mailboxes[&at.mailbox].get(&at.uid).cloned()).collect())
    }

    async fn list<V: View>(
        &self,
        _: &Call,
        view: &V,
        mailbox: Id,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Page<Message>> {
        let all = load(view, mailbox).await?;
        let mut rest = all.into_values().filter(|row| Some(row.uid) > after);
        let rows = rest.by_ref().take(limit as usize).collect();
        Ok(Page { rows, more: rest.next().is_some() })
    }

    async fn fetch<V: View>(
        &self,
        _: &Call,
        _: &V,
        mailbox: Id,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<Part<V::Body>>> {
        let max = max.min(u64::from(CHUNK));
        Ok(self.maildir(mailbox).read(&name, at, max)?.map(Part::Octets))
    }

    async fn settle<V: View>(
        &self,
        _: &Call,
        view: &V,
        mailbox: Id,
        names: Vec<String>,
    ) -> Result<()> {
        let rows = load(view, mailbox).await?;
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

    /// One mailbox a call: its rows can be read, and each has its file.
    async fn check<T: Txn>(
        &self,
        _: &Call,
        txn: &T,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage> {
        let start = after.map_or(Ok(Vec::new()), |text| cursor::decode(&text).map(key_after))?;
        let page = txn.view().scan(start, None, 1, MAX_OCTETS).await?;
        let mut result = CheckPage::empty();
        let Some((key, _)) = page.items.into_iter().next() else { return Ok(result) };
        let mailbox = <[u8; 16]>::try_from(key.as_slice()).map(Id::from_octets);
        let rows = match mailbox {
            Ok(mailbox) => load(&txn.view(), mailbox).await,
            Err(_) => Err(StoreError::damaged("a key that is no mailbox")),
        };
        let mut found = |name: String, problem: &str| {
            let finding = Finding::new(name, problem);
            result.findings.push(Finding { repaired: repair, ..finding });
        };
        match (mailbox, rows) {
            (Ok(mailbox), Ok(mut rows)) => {
                result.checked = rows.len() as u64;
                let maildir = self.maildir(mailbox);
                for row in rows.clone().into_values() {
                    let foreign = row.mailbox != mailbox;
                    if foreign || maildir.size(&row.name)? != Some(row.size) {
                        found(row.name, "its file is missing or has another size");
                        rows.remove(&row.uid);
                    }
                }
                if repair {
                    let rows: Vec<Message> = rows.into_values().collect();
                    txn.put(key.clone(), to_row(SCHEMA, &rows))?;
                }
            }
            (_, Err(error)) => {
                found(key.escape_ascii().to_string(), error.text());
                if repair {
                    txn.delete(key.clone())?;
                }
            }
            (Err(_), Ok(_)) => {}
        }
        result.next = page.more.then(|| cursor::encode(&key));
        Ok(result)
    }
}
