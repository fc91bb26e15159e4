//! redb's table as the ordered map of rows that all engines share, and its errors in our words.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use redb::{ReadOnlyTable, ReadableTable, Table, TableDefinition};

use crate::StorageError;
use crate::commit::Change;
use crate::rows::{Rows, Visit};

/// All rows: raw key, stored value. One table, because each further one that a commit touches costs
/// pages of its own.
pub const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> =
    TableDefinition::new("rows");

/// A table, for reading.
pub struct TableRows<'a, T>(pub &'a T);

/// The table of a read transaction.
pub type ReadRows<'a> = TableRows<'a, ReadOnlyTable<&'static [u8], &'static [u8]>>;

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Rows for TableRows<'_, T> {
    fn stored(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let stored = self.0.get(key).map_err(|error| failed(&error.into()))?;
        Ok(stored.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn visit(&self, start: &[u8], end: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if start >= end {
            return Ok(());
        }
        for row in self.0.range::<&[u8]>(start..end).map_err(|error| failed(&error.into()))? {
            let (key, stored) = row.map_err(|error| failed(&error.into()))?;
            if visit(key.value(), stored.value())? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

/// Carries out a change.
pub fn apply(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    change: &Change,
) -> Result<(), redb::Error> {
    match change {
        Change::Put(key, stored) => drop(table.insert(&key[..], &stored[..])?),
        Change::Delete(key) => drop(table.remove(&key[..])?),
        Change::DeleteRange(start, end) => {
            table.retain_in::<&[u8], _>(&start[..]..&end[..], |_, _| false)?;
        }
    }
    Ok(())
}

/// redb's errors by what the caller must do.
pub fn failed(error: &redb::Error) -> StorageError {
    match error {
        redb::Error::Corrupted(what) => StorageError::Damaged(format!("rows: {what}")),
        error => StorageError::Unavailable(error.to_string()),
    }
}

/// redb asserts that pages are well-formed. A page that is not is damage to one caller, and no
/// reason to lose the process.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(StorageError::Damaged(format!("rows: {}", said(&*panic)))))
}

/// What a panic said.
pub fn said(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        (None, None) => "panic".to_owned(),
    }
}
