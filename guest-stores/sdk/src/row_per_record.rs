//! Domains, users and mailboxes as one row each, under their names: what a store on the host's
//! ordered keys does with them unless it has a reason to do otherwise.

use std::marker::PhantomData;

use crate::check::{CheckAsk, Judge, Mend, Problem, Verdict, check};
use crate::codec::{from_row, to_row};
use crate::error::{Result, StoreError};
use crate::host::{Item, MAX_OCTETS, MaybeSend, MaybeSync, Txn, View, get_all, key_after};
use crate::records::{Call, CheckPage, Page, Record};
use crate::store::{Found, PageAsk, Records};

/// Rows looked at in one call of check: few enough to be done in a moment.
const CHECK_ROWS: u32 = 1000;

/// Makes a store keep domains, users and mailboxes in a row each: [`Records`] of all three. The row
/// is [`to_row`] of the record, its key [`Record::key`].
///
/// ```text
/// impl RowPerRecord for MyStore {
///     const SCHEMA: u8 = 1;
/// }
/// ```
pub trait RowPerRecord: MaybeSend + MaybeSync {
    /// Schema of the rows: their first octet.
    const SCHEMA: u8;
}

impl<S: RowPerRecord, R: Record> Records<R> for S {
    async fn drop<T: Txn>(&self, _: &Call, txn: &T) -> Result<()> {
        Ok(txn.delete_range(Vec::new(), None)?)
    }

    async fn insert<T: Txn>(&self, _: &Call, txn: &T, rows: Vec<R>) -> Result<()> {
        match present(txn, &rows).await?.iter().position(|there| *there) {
            Some(at) => Err(StoreError::AlreadyExists(format!("{} {}", R::KIND, rows[at].name()))),
            None => put(txn, S::SCHEMA, &rows),
        }
    }

    async fn update<T: Txn>(&self, _: &Call, txn: &T, rows: Vec<R>) -> Result<()> {
        match present(txn, &rows).await?.iter().position(|there| !*there) {
            Some(at) => Err(StoreError::NotFound(format!("{} {}", R::KIND, rows[at].name()))),
            None => put(txn, S::SCHEMA, &rows),
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
        each.map(|(key, row)| row.map(|row| read(S::SCHEMA, key, &row)).transpose()).collect()
    }

    async fn list<V: View>(&self, _: &Call, view: &V, ask: PageAsk<R::Name>) -> Result<Page<R>> {
        let start = ask.after.map_or_else(Vec::new, |name| key_after(R::key(&name)));
        let page = view.scan(start, None, ask.limit, MAX_OCTETS).await?;
        let rows = page.items.iter().map(|(key, row)| read(S::SCHEMA, key, row));
        Ok(Page { rows: rows.collect::<Result<_>>()?, more: page.more })
    }

    async fn check<T: Txn>(&self, _: &Call, txn: &T, ask: CheckAsk) -> Result<CheckPage> {
        check(txn, ask, CHECK_ROWS, &Row::<R> { schema: S::SCHEMA, record: PhantomData }).await
    }
}

/// Which of the rows are there, in their order.
async fn present<R: Record, T: Txn>(txn: &T, rows: &[R]) -> Result<Vec<bool>> {
    let keys = rows.iter().map(|row| R::key(&row.name())).collect();
    Ok(get_all(&txn.view(), keys).await?.iter().map(Option::is_some).collect())
}

fn put<R: Record, T: Txn>(txn: &T, schema: u8, rows: &[R]) -> Result<()> {
    for row in rows {
        txn.put(R::key(&row.name()), to_row(schema, row))?;
    }
    Ok(())
}

fn read<R: Record>(schema: u8, key: &[u8], row: &[u8]) -> Result<R> {
    let what = || format!("{} row {}", R::KIND, String::from_utf8_lossy(key).escape_debug());
    let record: R = from_row(schema, row, what)?;
    match R::key(&record.name()) == key {
        true => Ok(record),
        false => Err(StoreError::damaged(format_args!("{} holds {}", what(), record.name()))),
    }
}

/// Judges rows: each can be read and stands under its own key.
struct Row<R> {
    schema: u8,
    record: PhantomData<R>,
}

impl<R: Record> Judge for Row<R> {
    async fn judge<V: View>(&self, _: &V, (key, row): &Item) -> Result<Verdict> {
        let problem = |error: StoreError| Problem {
            name: format!("{} {}", R::KIND, key.escape_ascii()),
            problem: error.text().to_owned(),
            mend: Mend::Remove(vec![key.clone()]),
        };
        let read = read::<R>(self.schema, key, row);
        Ok(read.err().map(problem).into_iter().collect::<Vec<_>>().into())
    }
}
