//! Judges the rows of messages: each can be read and stands under its own key, has its other half, and
//! its body is there. A message whose name or body is lost is removed; one whose flags are lost goes
//! on without.

use postroom_guest::check::{Judge, Mend, Problem, Verdict};
use postroom_guest::codec::to_row;
use postroom_guest::cursor::encode;
use postroom_guest::{Body, Item, MessagePlace, Result, View};

use crate::SCHEMA;
use crate::messages::{FIXED, VOLATILE, Volatile, key, place_of, read_fixed, read_volatile};

/// Judges any row of the space of messages.
pub struct MessageRow;

impl Judge for MessageRow {
    async fn judge<V: View>(&self, view: &V, (key, row): &Item) -> Result<Verdict> {
        let (name, found) = match place_of(key) {
            None => {
                let remove = Mend::Remove(vec![key.clone()]);
                (format!("key {}", encode(key)), vec![("belongs to nothing".to_owned(), remove)])
            }
            Some((FIXED, place)) => (place.to_string(), fixed(view, place, row).await?),
            Some((_, place)) => (place.to_string(), volatile(view, place).await?),
        };
        let problem = |(problem, mend)| Problem { name: name.clone(), problem, mend };
        Ok(found.into_iter().map(problem).collect::<Vec<_>>().into())
    }
}

/// What is wrong with a message.
async fn fixed<V: View>(view: &V, place: MessagePlace, row: &[u8]) -> Result<Vec<(String, Mend)>> {
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
        problems.push((problem, Mend::Put(key(FIXED, place), to_row(SCHEMA, &message))));
    }
    let rows = view.get_many(vec![key(VOLATILE, place)]).await?;
    let problem = match rows.into_iter().next().flatten() {
        None => Some("its flags are missing".to_owned()),
        Some(row) => read_volatile(place, &row).err().map(|error| error.text().to_owned()),
    };
    if let Some(problem) = problem {
        let lost = Volatile { modseq: 1, ..Volatile::default() };
        problems.push((problem, Mend::Put(key(VOLATILE, place), to_row(SCHEMA, &lost))));
    }
    Ok(problems)
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
