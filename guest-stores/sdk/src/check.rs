//! The frame of a check: rows page by page, each judged, what is found reported and mended.

use std::future::Future;

use crate::cursor;
use crate::error::Result;
use crate::host::{Item, MAX_OCTETS, MaybeSend, MaybeSync, Txn, View, key_after};
use crate::records::{CheckPage, Finding};

/// What a check is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckAsk {
    /// Where the last page ended; `None`: begin.
    pub after: Option<String>,
    /// Whether to mend what is found.
    pub repair: bool,
}

/// What looking at a row has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records in the row.
    pub records: u64,
    /// All that is wrong with them.
    pub problems: Vec<Problem>,
    /// What the row becomes in the schema to which the check brings all of them; `None`: it stays as
    /// it is.
    pub migrated: Option<Vec<u8>>,
}

/// Of a row that is one record.
impl From<Vec<Problem>> for Verdict {
    fn from(problems: Vec<Problem>) -> Self {
        Self { records: 1, problems, migrated: None }
    }
}

/// Something that is wrong, and how it is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The record, in words.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
    /// How it is mended.
    pub mend: Mend,
}

/// How something is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// These keys are removed.
    Remove(Vec<Vec<u8>>),
    /// This key gets this value.
    Put(Vec<u8>, Vec<u8>),
}

/// Says what is wrong with a row.
pub trait Judge: MaybeSend + MaybeSync {
    /// All that is wrong with a row, looking at others where it has to.
    fn judge<V: View>(
        &self,
        view: &V,
        row: &Item,
    ) -> impl Future<Output = Result<Verdict>> + MaybeSend;
}

/// One page of a check of all rows of a space, at most `rows` of them.
pub async fn check<T: Txn>(
    txn: &T,
    ask: CheckAsk,
    rows: u32,
    judge: &impl Judge,
) -> Result<CheckPage> {
    let start = ask.after.map_or(Ok(Vec::new()), |text| cursor::decode(&text).map(key_after))?;
    let view = txn.view();
    let page = view.scan(start, None, rows, MAX_OCTETS).await?;
    let mut result = CheckPage::empty();
    for row in &page.items {
        let verdict = judge.judge(&view, row).await?;
        result.checked += verdict.records;
        if let Some(value) = verdict.migrated {
            txn.put(row.0.clone(), value)?;
        }
        for Problem { name, problem, mend } in verdict.problems {
            result.findings.push(Finding { repaired: ask.repair, ..Finding::new(name, problem) });
            match mend {
                Mend::Remove(keys) if ask.repair => {
                    keys.into_iter().try_for_each(|key| txn.delete(key))?;
                }
                Mend::Put(key, value) if ask.repair => txn.put(key, value)?,
                Mend::Remove(_) | Mend::Put(..) => {}
            }
        }
    }
    result.next = page.items.last().filter(|_| page.more).map(|(key, _)| cursor::encode(key));
    Ok(result)
}
