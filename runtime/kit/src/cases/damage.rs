//! Cases in which stored octets are damaged behind the store's back.

use super::messages::{self as of_messages, place, row, sorted};
use super::records as of_records;
use crate::error::{Result, StoreError};
use crate::records::{Id, Message, MessagePlace};
use crate::rng::Rng;
use crate::sample::Sample;
use crate::subject::{Host, MessageSubject, RecordSubject};
use crate::verdict::{Stop, Verdict, broken, done, found_by_host, holds, shown};

/// Times that something is damaged in a case.
const ROUNDS: u32 = 25;
const FOUND: &str = "check.1";
const REPAIR: &str = "check.2";

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
            let (answer, promise) = (shown(error), found_by_host(error).unwrap_or(FOUND));
            broken(promise, format!("{what}: a read answers {answer}, not damaged"))
        }
    }
}

/// What was done behind the store's back.
struct Damage {
    /// In words.
    what: String,
    /// Whether a body is gone: rows can be read all the same, and a check has to find it.
    hidden: bool,
}

/// What three checks in a row have found: without repair, with repair, with repair again.
fn judge(damage: &Damage, readable: bool, found: [&[String]; 3]) -> Verdict {
    let (what, [first, repaired, rest]) = (&damage.what, found);
    holds(FOUND, !damage.hidden || !first.is_empty(), || {
        format!("{what}: fetch does not find it, and a check finds nothing")
    })?;
    holds(FOUND, readable || !first.is_empty(), || {
        format!("{what}: select answers damaged, and a check finds nothing")
    })?;
    holds(REPAIR, first.len() == repaired.len(), || {
        format!(
            "{what}: a check without repair finds {}, the next one {}",
            shown(&first),
            shown(&repaired)
        )
    })?;
    holds("check.4", rest.is_empty(), || format!("{what}: a repair leaves {}", shown(&rest)))
}

/// A repair mends or removes what is damaged, and nothing else: a row that was answered as it was
/// inserted is there after it.
fn unharmed<T: PartialEq + std::fmt::Debug>(
    what: &str,
    sound: &[T],
    after: &[Option<T>],
) -> Verdict {
    let lost = sound.iter().find(|row| !after.iter().flatten().any(|there| there == *row));
    holds(REPAIR, lost.is_none(), || {
        format!("{what}: a select still answers {}, and a repair takes it away", shown(&lost))
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
        let damage = Damage { what: damage(subject, rng, flips).await?, hidden: false };
        let names: Vec<_> = rows.iter().map(R::name).collect();
        let readable = read(&damage.what, &subject.select(None, names.clone()).await)?;
        let mut sound = Vec::new();
        for row in rows {
            let found = subject.select(None, vec![row.name()]).await;
            read(&damage.what, &found)?;
            sound.extend(found.into_iter().flatten().flatten().filter(|there| *there == row));
        }
        let (_, first) = of_records::check_all(subject, FOUND, false).await?;
        let (_, repaired) = of_records::check_all(subject, FOUND, true).await?;
        let (_, rest) = of_records::check_all(subject, FOUND, true).await?;
        judge(&damage, readable, [&first, &repaired, &rest])?;
        let after = done(REPAIR, "select after a repair", subject.select(None, names).await)?;
        unharmed(&damage.what, &sound, &after)?;
        done(REPAIR, "list after a repair", subject.list(None, None, 4096).await)?;
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
        let (damage, bodiless) = match round % 8 {
            0 => body_lost(subject, of_messages::row(boxes[1], 3)).await?,
            _ => (Damage { what: damage(subject, rng, flips).await?, hidden: false }, None),
        };
        let places: Vec<_> = (1..9).map(|uid| place(boxes[uid as usize % 2], uid)).collect();
        let readable = read(&damage.what, &subject.select(None, places.clone()).await)?;
        let mut sound = Vec::new();
        for at in places.iter().filter(|at| Some(**at) != bodiless) {
            let found = subject.select(None, vec![*at]).await;
            read(&damage.what, &found)?;
            let found = found.into_iter().flatten().flatten().map(sorted);
            sound.extend(found.filter(|there| *there == sorted(row(at.mailbox, at.uid))));
        }
        let (_, first) = of_messages::check_all(subject, FOUND, false).await?;
        let (_, repaired) = of_messages::check_all(subject, FOUND, true).await?;
        let (_, rest) = of_messages::check_all(subject, FOUND, true).await?;
        judge(&damage, readable, [&first, &repaired, &rest])?;
        let after = done(REPAIR, "select after a repair", subject.select(None, places).await)?;
        let after: Vec<_> = after.into_iter().map(|row| row.map(sorted)).collect();
        unharmed(&damage.what, &sound, &after)?;
        for mailbox in boxes {
            let listed = subject.list(None, mailbox, None, 4096).await;
            done(REPAIR, "list after a repair", listed)?;
        }
    }
    Ok(())
}

/// Takes the body of a message away, and the place of the message where it is lost by that: a store
/// whose medium is outside keeps the octets itself.
async fn body_lost<S: MessageSubject>(
    subject: &S,
    row: Message,
) -> Verdict<(Damage, Option<MessagePlace>)> {
    let what = "a body is taken away".to_owned();
    done(FOUND, "damage", subject.unlink(&row.name).await)?;
    let fetched = subject.fetch(None, row.mailbox, row.name.clone(), 0, u64::MAX).await;
    let there = read(&what, &fetched)? && fetched == Ok(Some(of_messages::octets(row.uid)));
    Ok((Damage { what, hidden: !there }, (!there).then(|| row.place())))
}
