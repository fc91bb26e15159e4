//! Cases in which stored octets are damaged behind the store's back.

use super::messages::{self as of_messages, place};
use super::records as of_records;
use crate::error::{Result, StoreError};
use crate::records::Id;
use crate::rng::Rng;
use crate::sample::{Sample, message};
use crate::subject::{Host, MessageSubject, RecordSubject};
use crate::verdict::{Stop, Verdict, done, holds, shown};

/// Times that something is damaged in a case.
const ROUNDS: u32 = 25;
const FOUND: &str = "check.1";

/// Whether bits are flipped too: what comes of it may be another row that can be read, which only
/// the store itself takes for one that the host could have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flips {
    /// Never.
    Never,
    /// Now and then.
    Sometimes,
}

/// Damages what is stored: a cut, an octet too many, rubbish, a row taken away or put under another
/// key, a flipped bit. What was done, in words.
async fn damage<S: Host>(subject: &S, rng: &mut Rng, flips: Flips) -> Verdict<String> {
    let rows = done(FOUND, "a look at what is stored", subject.stored().await)?;
    if rows.is_empty() {
        let why = "it keeps nothing in the host's storage that could be damaged";
        return Err(Stop::NotApplicable(why.to_owned()));
    }
    let (key, mut value) = rows[rng.below(rows.len() as u32) as usize].clone();
    let at = rng.below(value.len().max(1) as u32) as usize;
    let kinds = if flips == Flips::Never { 5 } else { 6 };
    let (what, key, value) = match rng.below(kinds) {
        0 => ("a row is taken away", key, None),
        1 => ("a value is cut", key, Some(value[..at].to_vec())),
        2 => ("a row is put under another key too", key.into_iter().rev().collect(), Some(value)),
        3 => ("a value has an octet too many", key, Some([value, vec![0]].concat())),
        4 => ("a value is rubbish", key, Some(vec![0xff; value.len()])),
        _ => {
            if let Some(octet) = value.get_mut(at) {
                *octet ^= 1 << rng.below(8);
            }
            ("a bit of a value is flipped", key, Some(value))
        }
    };
    done(FOUND, "damage", subject.tamper(key, value).await)?;
    Ok(what.to_owned())
}

/// Takes away all that is stored.
async fn wipe<S: Host>(subject: &S) -> Verdict {
    for (key, _) in done(FOUND, "a look at what is stored", subject.stored().await)? {
        done(FOUND, "a wipe", subject.tamper(key, None).await)?;
    }
    Ok(())
}

/// A read of what may be damaged; whether it was answered.
fn read<T: std::fmt::Debug>(what: &str, outcome: &Result<T>) -> Verdict<bool> {
    match outcome {
        Ok(_) => Ok(true),
        Err(StoreError::Damaged(_)) => Ok(false),
        Err(error) => {
            let answer = shown(error);
            holds(FOUND, false, || format!("{what}: select answers {answer}, not damaged"))?;
            Ok(false)
        }
    }
}

/// What three checks in a row have found: without repair, with repair, with repair again.
fn judge(what: &str, readable: bool, found: [&[String]; 3]) -> Verdict {
    let [first, repaired, rest] = found;
    holds("check.2", first.len() == repaired.len(), || {
        format!(
            "{what}: a check without repair finds {}, the next one {}",
            shown(&first),
            shown(&repaired)
        )
    })?;
    holds("check.4", rest.is_empty(), || format!("{what}: a repair leaves {}", shown(&rest)))?;
    holds(FOUND, readable || !first.is_empty(), || {
        format!("{what}: select answers damaged, and a check finds nothing")
    })
}

/// Reads say `damaged` at most, and after a repair they succeed and nothing more is found.
pub async fn damaged_records_are_found_and_repaired<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    records(subject, &mut subject.rng(), Flips::Never).await
}

/// As of records; a body that is missing is damage too.
pub async fn damaged_messages_are_found_and_repaired<S: MessageSubject>(subject: &S) -> Verdict {
    messages(subject, &mut subject.rng(), Flips::Never).await
}

/// The case of records, with this randomness.
pub async fn records<R: Sample, S: RecordSubject<R>>(
    subject: &S,
    rng: &mut Rng,
    flips: Flips,
) -> Verdict {
    for _ in 0..ROUNDS {
        wipe(subject).await?;
        let rows: Vec<R> = (0..8).map(R::sample).collect();
        of_records::holding(subject, FOUND, rows.clone()).await?;
        let what = damage(subject, rng, flips).await?;
        let names: Vec<_> = rows.iter().map(R::name).collect();
        let readable = read(&what, &subject.select(None, names).await)?;
        let (_, first) = of_records::check_all(subject, FOUND, false).await?;
        let (_, repaired) = of_records::check_all(subject, FOUND, true).await?;
        let (_, rest) = of_records::check_all(subject, FOUND, true).await?;
        judge(&what, readable, [&first, &repaired, &rest])?;
        done("check.2", "list after a repair", subject.list(None, None, 4096).await)?;
    }
    Ok(())
}

/// The case of messages, with this randomness.
pub async fn messages<S: MessageSubject>(subject: &S, rng: &mut Rng, flips: Flips) -> Verdict {
    for round in 0..ROUNDS {
        wipe(subject).await?;
        // Mailboxes of its own for each round: names of messages are never used again.
        let boxes = [1, 2].map(|n| Id::from_u128(u128::from(round) * 16 + n));
        for (at, mailbox) in boxes.into_iter().enumerate() {
            let uids = (1..9).filter(|uid| uid % 2 == at as u32);
            of_messages::holding(subject, FOUND, mailbox, uids).await?;
        }
        let what = match rng.below(8) {
            0 => {
                let name = message(boxes[1], 3).name;
                done(FOUND, "damage", subject.unlink(&name).await)?;
                "a body is taken away".to_owned()
            }
            _ => damage(subject, rng, flips).await?,
        };
        let at = |uid: u32| place(boxes[uid as usize % 2], uid);
        let readable = read(&what, &subject.select(None, (1..9).map(at).collect()).await)?;
        let (_, first) = of_messages::check_all(subject, FOUND, false).await?;
        let (_, repaired) = of_messages::check_all(subject, FOUND, true).await?;
        let (_, rest) = of_messages::check_all(subject, FOUND, true).await?;
        judge(&what, readable, [&first, &repaired, &rest])?;
        for mailbox in boxes {
            let listed = subject.list(None, mailbox, None, 4096).await;
            done("check.2", "list after a repair", listed)?;
        }
    }
    Ok(())
}
