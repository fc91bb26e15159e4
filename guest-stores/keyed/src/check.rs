//! Judges the rows of messages: each can be read and stands under its own key, has its other half, and
//! its body is there. A message whose name or body is lost is removed; one whose flags are lost goes
//! on without.

use postroom_guest::check::{Judge, Mend, Problem, Verdict};
use postroom_guest::codec::to_row;
use postroom_guest::cursor::encode;
use postroom_guest::{Body, Item, MessagePlace, Result, View};

use crate::messages::{FIXED, VOLATILE, Volatile, key, place_of, read_volatile};
use crate::rows::{fixed_row, read_fixed};

/// Judges any row of the space of messages.
pub struct MessageRow {
    /// In which schema rows are mended.
    pub schema: u8,
    /// To which one all are brought: then bodies and other halves are left alone.
    pub migrated_to: Option<u8>,
}

impl Judge for MessageRow {
    async fn judge<V: View>(&self, view: &V, (key, row): &Item) -> Result<Verdict> {
        if let Some(schema) = self.migrated_to {
            return Ok(migrated(schema, key, row));
        }
        let (name, found) = match place_of(key) {
            None => {
                let remove = Mend::Remove(vec![key.clone()]);
                (format!("key {}", encode(key)), vec![("belongs to nothing".to_owned(), remove)])
            }
            Some((FIXED, place)) => (place.to_string(), self.fixed(view, place, row).await?),
            Some((_, place)) => (place.to_string(), volatile(view, place).await?),
        };
        let problem = |(problem, mend)| Problem { name: name.clone(), problem, mend };
        Ok(found.into_iter().map(problem).collect::<Vec<_>>().into())
    }
}

impl MessageRow {
    /// What is wrong with a message.
    async fn fixed<V: View>(
        &self,
        view: &V,
        place: MessagePlace,
        row: &[u8],
    ) -> Result<Vec<(String, Mend)>> {
        let remove = || Mend::Remove(vec![key(FIXED, place), key(VOLATILE, place)]);
        let mut message = match read_fixed(place, row) {
            Ok(message) => message,
            Err(error) => return Ok(vec![(error.text().to_owned(), remove())]),
        };
        let Some(body) = view.get_body(message.name.clone()).await? else {
            return Ok(vec![(format!("the body {} is missing", message.name), remove())]);
        };
        let mut problems = Vec::new();
        if body.size() != message.size {
            let problem = format!("has {} octets, its row says {}", body.size(), message.size);
            message.size = body.size();
            problems
                .push((problem, Mend::Put(key(FIXED, place), fixed_row(self.schema, &message))));
        }
        let rows = view.get_many(vec![key(VOLATILE, place)]).await?;
        let problem = match rows.into_iter().next().flatten() {
            None => Some("its flags are missing".to_owned()),
            Some(row) => read_volatile(place, &row).err().map(|error| error.text().to_owned()),
        };
        if let Some(problem) = problem {
            let lost = Volatile { modseq: 1, ..Volatile::default() };
            problems.push((problem, Mend::Put(key(VOLATILE, place), to_row(self.schema, &lost))));
        }
        Ok(problems)
    }
}

/// The row in another schema, if it has another one and can be read.
fn migrated(schema: u8, key: &[u8], row: &[u8]) -> Verdict {
    let has = row.first() == Some(&schema);
    let (name, written) = match place_of(key) {
        None => return Verdict { records: 1, ..Verdict::default() },
        Some((FIXED, place)) => {
            (place, read_fixed(place, row).map(|message| fixed_row(schema, &message)))
        }
        Some((_, place)) => {
            (place, read_volatile(place, row).map(|volatile| to_row(schema, &volatile)))
        }
    };
    match written {
        Ok(row) => Verdict { records: 1, problems: Vec::new(), migrated: (!has).then_some(row) },
        Err(error) => {
            let mend = Mend::Remove(vec![key.to_vec()]);
            let (name, problem) = (name.to_string(), error.text().to_owned());
            vec![Problem { name, problem, mend }].into()
        }
    }
}

/// What is wrong with a row of flags: that it has no message. It may have been removed with its
/// message since the page was read.
async fn volatile<V: View>(view: &V, place: MessagePlace) -> Result<Vec<(String, Mend)>> {
    let (fixed, volatile) = (key(FIXED, place), key(VOLATILE, place));
    Ok(match view.get_many(vec![fixed, volatile.clone()]).await?.as_slice() {
        [None, Some(_)] => {
            vec![("has flags, but is not there".to_owned(), Mend::Remove(vec![volatile]))]
        }
        _ => Vec::new(),
    })
}
