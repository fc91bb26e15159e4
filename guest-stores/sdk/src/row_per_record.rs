//! Domains, users and mailboxes as one row each, under their names: what a store on the host's
//! ordered keys does with them unless it has a reason to do otherwise.

use std::marker::PhantomData;

use crate::check::{CheckAsk, Judge, Mend, Problem, Verdict, check};
use crate::codec::from_row_of;
use crate::error::{Result, StoreError};
use crate::host::{Item, MAX_OCTETS, MaybeSend, MaybeSync, Txn, View, get_all, key_after};
use crate::records::{Call, CheckPage, Page, Record};
use crate::schema::Schemas;
use crate::store::{Found, PageAsk, Records};

/// Rows looked at in one call of check: few enough to be done in a moment.
const CHECK_ROWS: u32 = 1000;

/// Makes a store keep domains, users and mailboxes in a row each: [`Records`] of all three. The row
/// is its schema and the record's encoding, its key [`Record::key`].
///
/// ```text
/// impl RowPerRecord for MyStore {
///     const SCHEMA: u8 = 1;
/// }
/// ```
///
/// A version with a new schema goes on to read the old one, and to write it while the host says so:
/// `OLDEST` names it, and `encode` and `decode` tell both apart where they differ. The manifest then
/// says `"schema": { "reads": [1, 2], "writes": [1, 2] }`.
pub trait RowPerRecord: MaybeSend + MaybeSync {
    /// Schema of the rows: their first octet.
    const SCHEMA: u8;
    /// The oldest schema that is read, and written when the host says so.
    const OLDEST: u8 = Self::SCHEMA;
    /// Both.
    const SCHEMAS: Schemas = Schemas { oldest: Self::OLDEST, newest: Self::SCHEMA };

    /// Appends a record in a schema: as it stands they are all alike.
    fn encode<R: Record>(schema: u8, record: &R, out: &mut Vec<u8>) {
        let _ = schema;
        record.encode(out);
    }

    /// Takes a record of a schema from the front; `None`: there is none.
    fn decode<R: Record>(schema: u8, input: &mut &[u8]) -> Option<R> {
        let _ = schema;
        R::decode(input)
    }
}

impl<S: RowPerRecord, R: Record> Records<R> for S {
    async fn drop<T: Txn>(&self, _: &Call, txn: &T) -> Result<()> {
        Ok(txn.delete_range(Vec::new(), None)?)
    }

    async fn insert<T: Txn>(&self, call: &Call, txn: &T, rows: Vec<R>) -> Result<()> {
        match present(txn, &rows).await?.iter().position(|there| *there) {
            Some(at) => Err(StoreError::AlreadyExists(format!("{} {}", R::KIND, rows[at].name()))),
            None => put::<S, R, T>(txn, S::SCHEMAS.of(call)?, &rows),
        }
    }

    async fn update<T: Txn>(&self, call: &Call, txn: &T, rows: Vec<R>) -> Result<()> {
        match present(txn, &rows).await?.iter().position(|there| !*there) {
            Some(at) => Err(StoreError::NotFound(format!("{} {}", R::KIND, rows[at].name()))),
            None => put::<S, R, T>(txn, S::SCHEMAS.of(call)?, &rows),
        }
    }

    async fn delete<T: Txn>(&self, _: &Call, txn: &T, names: Vec<R::Name>) -> Result<()> {
        for name in &names {
            txn.delete(R::key(name))?;
        }
        Ok(())
    }

    async fn select<V: View>(&self, _: &Call, view: &V, names: Vec<R::Name>) -> Result<Found<R>> {
        let keys: Vec<_> = names.iter().map(R::key).collect();
        let rows = get_all(view, keys.clone()).await?;
        let each = keys.iter().zip(rows);
        each.map(|(key, row)| row.map(|row| read::<S, R>(key, &row)).transpose()).collect()
    }

    async fn list<V: View>(&self, _: &Call, view: &V, ask: PageAsk<R::Name>) -> Result<Page<R>> {
        let start = ask.after.map_or_else(Vec::new, |name| key_after(R::key(&name)));
        let page = view.scan(start, None, ask.limit, MAX_OCTETS).await?;
        let rows = page.items.iter().map(|(key, row)| read::<S, R>(key, row));
        Ok(Page { rows: rows.collect::<Result<_>>()?, more: page.more })
    }

    async fn check<T: Txn>(&self, call: &Call, txn: &T, ask: CheckAsk) -> Result<CheckPage> {
        let migrated_to = S::SCHEMAS.migrated_to(call)?;
        check(txn, ask, CHECK_ROWS, &Row::<S, R> { migrated_to, of: PhantomData }).await
    }
}

/// Which of the rows are there, in their order.
async fn present<R: Record, T: Txn>(txn: &T, rows: &[R]) -> Result<Vec<bool>> {
    let keys = rows.iter().map(|row| R::key(&row.name())).collect();
    Ok(get_all(&txn.view(), keys).await?.iter().map(Option::is_some).collect())
}

fn put<S: RowPerRecord, R: Record, T: Txn>(txn: &T, schema: u8, rows: &[R]) -> Result<()> {
    for row in rows {
        txn.put(R::key(&row.name()), row_of::<S, R>(schema, row))?;
    }
    Ok(())
}

fn row_of<S: RowPerRecord, R: Record>(schema: u8, record: &R) -> Vec<u8> {
    let mut row = vec![schema];
    S::encode(schema, record, &mut row);
    row
}

fn read<S: RowPerRecord, R: Record>(key: &[u8], row: &[u8]) -> Result<R> {
    let what = || format!("{} row {}", R::KIND, String::from_utf8_lossy(key).escape_debug());
    let record: R = from_row_of(S::SCHEMAS, row, S::decode, what)?;
    match R::key(&record.name()) == key {
        true => Ok(record),
        false => Err(StoreError::damaged(format_args!("{} holds {}", what(), record.name()))),
    }
}

/// Judges rows: each can be read and stands under its own key.
struct Row<S, R> {
    migrated_to: Option<u8>,
    of: PhantomData<fn() -> (S, R)>,
}

impl<S: RowPerRecord, R: Record> Judge for Row<S, R> {
    async fn judge<V: View>(&self, _: &V, (key, row): &Item) -> Result<Verdict> {
        let record = match read::<S, R>(key, row) {
            Ok(record) => record,
            Err(error) => {
                let problem = Problem {
                    name: format!("{} {}", R::KIND, key.escape_ascii()),
                    problem: error.text().to_owned(),
                    mend: Mend::Remove(vec![key.clone()]),
                };
                return Ok(vec![problem].into());
            }
        };
        let other = self.migrated_to.filter(|schema| row.first() != Some(schema));
        let migrated = other.map(|schema| row_of::<S, R>(schema, &record));
        Ok(Verdict { records: 1, problems: Vec::new(), migrated })
    }
}
