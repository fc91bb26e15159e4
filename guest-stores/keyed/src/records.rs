//! Domains, users and mailboxes: name → record.

use postroom_guest::codec::{from_row, to_row};
use postroom_guest::cursor::{decode, encode};
use postroom_guest::{
    Call, CheckPage, Finding, MAX_OCTETS, Page, Record, Records, Result, StoreError, Txn, View,
    get_all, key_after,
};

use crate::{Keyed, SCHEMA};

/// Rows looked at in one call of check: few enough to be done in a moment.
const CHECK_ROWS: u32 = 1000;

fn read<R: Record>(key: &[u8], row: &[u8]) -> Result<R> {
    let what = || format!("{} row {}", R::KIND, String::from_utf8_lossy(key).escape_debug());
    let record: R = from_row(SCHEMA, row, what)?;
    match R::key(&record.name()) == key {
        true => Ok(record),
        false => Err(StoreError::damaged(format_args!("{} holds {}", what(), record.name()))),
    }
}

/// Which of the rows are there, in their order.
async fn present<R: Record, T: Txn>(txn: &T, rows: &[R]) -> Result<Vec<bool>> {
    let keys = rows.iter().map(|row| R::key(&row.name())).collect();
    Ok(get_all(&txn.view(), keys).await?.iter().map(Option::is_some).collect())
}

fn put<R: Record, T: Txn>(txn: &T, rows: &[R]) -> Result<()> {
    for row in rows {
        txn.put(R::key(&row.name()), to_row(SCHEMA, row))?;
    }
    Ok(())
}

impl<R: Record> Records<R> for Keyed {
    async fn drop<T: Txn>(&self, _: &Call, txn: &T) -> Result<()> {
        Ok(txn.delete_range(Vec::new(), None)?)
    }

    async fn insert<T: Txn>(&self, _: &Call, txn: &T, rows: Vec<R>) -> Result<()> {
        match present(txn, &rows).await?.iter().position(|there| *there) {
            Some(at) => Err(StoreError::AlreadyExists(format!("{} {}", R::KIND, rows[at].name()))),
            None => put(txn, &rows),
        }
    }

    async fn update<T: Txn>(&self, _: &Call, txn: &T, rows: Vec<R>) -> Result<()> {
        match present(txn, &rows).await?.iter().position(|there| !*there) {
            Some(at) => Err(StoreError::NotFound(format!("{} {}", R::KIND, rows[at].name()))),
            None => put(txn, &rows),
        }
    }

    async fn delete<T: Txn>(&self, _: &Call, txn: &T, names: Vec<R::Name>) -> Result<()> {
        for name in &names {
            txn.delete(R::key(name))?;
        }
        Ok(())
    }

    async fn select<V: View>(
        &self,
        _: &Call,
        view: &V,
        names: Vec<R::Name>,
    ) -> Result<Vec<Option<R>>> {
        let keys: Vec<_> = names.iter().map(R::key).collect();
        let rows = get_all(view, keys.clone()).await?;
        let each = keys.iter().zip(rows);
        each.map(|(key, row)| row.map(|row| read(key, &row)).transpose()).collect()
    }

    async fn list<V: View>(
        &self,
        _: &Call,
        view: &V,
        after: Option<R::Name>,
        limit: u32,
    ) -> Result<Page<R>> {
        let start = after.map_or_else(Vec::new, |name| key_after(R::key(&name)));
        let page = view.scan(start, None, limit, MAX_OCTETS).await?;
        let rows = page.items.iter().map(|(key, row)| read(key, row)).collect::<Result<_>>()?;
        Ok(Page { rows, more: page.more })
    }

    async fn check<T: Txn>(
        &self,
        _: &Call,
        txn: &T,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage> {
        let start = after.map_or(Ok(Vec::new()), |cursor| decode(&cursor).map(key_after))?;
        let page = txn.view().scan(start, None, CHECK_ROWS, MAX_OCTETS).await?;
        let mut result = CheckPage { checked: page.items.len() as u64, ..CheckPage::empty() };
        for (key, row) in &page.items {
            if let Err(problem) = read::<R>(key, row) {
                let name = String::from_utf8_lossy(key).escape_debug().to_string();
                result
                    .findings
                    .push(Finding { repaired: repair, ..Finding::new(name, problem.text()) });
                if repair {
                    txn.delete(key.clone())?;
                }
            }
        }
        result.next = page.items.last().filter(|_| page.more).map(|(key, _)| encode(key));
        Ok(result)
    }
}
