//! Cases of schemas: rows that one version of a store has written are another's to read, and to bring
//! to its own. A store whose manifest names no range of schemas is told nothing, and keeps its rows.

use super::messages::{self as of_messages, BOX};
use super::records as of_records;
use crate::sample::Sample;
use crate::subject::{Host, MessageSubject, RecordSubject, Told};
use crate::verdict::{Verdict, done, holds, same, shown};

/// Reads answer the same whatever they are told.
const READS: &str = "types.call.3";
/// A check brings rows to the schema that it is told.
const BRINGS: &str = "store.rule.14";
/// And mends nothing.
const MENDS: &str = "store.rule.15";
/// Messages of a case.
const UIDS: std::ops::Range<u32> = 1..6;

/// What is stored.
type Stored = Vec<(Vec<u8>, Vec<u8>)>;

/// What a kind of record has to do so that its rows can be filled in and read.
trait Kind {
    /// An empty space, then the rows of the case.
    async fn fill(&self) -> Verdict;
    /// The rows of the case are there.
    async fn expect(&self, promise: &'static str) -> Verdict;
    /// All calls of a check without repair; what they found.
    async fn check(&self) -> Verdict<Vec<String>>;
    /// What is stored.
    async fn stored(&self) -> Verdict<Stored>;
    /// Damages a value.
    async fn damage(&self, key: Vec<u8>, value: Vec<u8>) -> Verdict;
    fn schemas(&self) -> Vec<u32>;
    fn tell(&self, told: Told);
}

/// Takes away all that is stored; whether there was anything.
async fn wipe<S: Host>(subject: &S) -> Verdict<bool> {
    let stored = done(BRINGS, "a look at what is stored", subject.stored().await)?;
    let was_there = !stored.is_empty();
    for (key, _) in stored {
        done(BRINGS, "a wipe", subject.tamper(key, None).await)?;
    }
    Ok(was_there)
}

struct OfRecords<'a, R, S>(&'a S, std::marker::PhantomData<R>);
struct OfMessages<'a, S>(&'a S);

/// What is the same for both.
macro_rules! host {
    () => {
        async fn stored(&self) -> Verdict<Stored> {
            done(BRINGS, "a look at what is stored", self.0.stored().await)
        }

        async fn damage(&self, key: Vec<u8>, value: Vec<u8>) -> Verdict {
            done(MENDS, "damage", self.0.tamper(key, Some(value)).await)
        }

        fn schemas(&self) -> Vec<u32> {
            self.0.schemas()
        }

        fn tell(&self, told: Told) {
            self.0.tell(told);
        }
    };
}

impl<R: Sample, S: RecordSubject<R>> Kind for OfRecords<'_, R, S> {
    async fn fill(&self) -> Verdict {
        wipe(self.0).await?;
        of_records::holding(self.0, BRINGS, of_records::samples::<R>(0..6)).await
    }

    async fn expect(&self, promise: &'static str) -> Verdict {
        of_records::expect(self.0, promise, &of_records::samples::<R>(0..6)).await
    }

    async fn check(&self) -> Verdict<Vec<String>> {
        Ok(of_records::check_all(self.0, BRINGS, false).await?.1)
    }

    host!();
}

impl<S: MessageSubject> Kind for OfMessages<'_, S> {
    async fn fill(&self) -> Verdict {
        if wipe(self.0).await? {
            // They come again under the same names, so that their rows can be compared.
            let names = of_messages::rows(BOX, UIDS).into_iter().map(|row| row.name).collect();
            done(BRINGS, "settle", self.0.settle(BOX, names, true).await)?;
        }
        of_messages::holding(self.0, BRINGS, BOX, UIDS).await
    }

    async fn expect(&self, promise: &'static str) -> Verdict {
        of_messages::expect(self.0, promise, BOX, &of_messages::rows(BOX, UIDS)).await
    }

    async fn check(&self) -> Verdict<Vec<String>> {
        Ok(of_messages::check_all(self.0, BRINGS, false).await?.1)
    }

    host!();
}

/// Of a store of domains, users or mailboxes.
pub async fn rows_are_brought_to_another_schema<R: Sample, S: RecordSubject<R>>(
    subject: &S,
) -> Verdict {
    brought(&OfRecords::<R, S>(subject, std::marker::PhantomData)).await
}

/// Of a store of messages.
pub async fn messages_are_brought_to_another_schema<S: MessageSubject>(subject: &S) -> Verdict {
    brought(&OfMessages(subject)).await
}

async fn brought(kind: &impl Kind) -> Verdict {
    let schemas = kind.schemas();
    kind.fill().await?;
    kind.expect(BRINGS).await?;
    let told = |schema, migrate| kind.tell(Told { schema: Some(schema), migrate });
    for to in &schemas {
        told(*to, false);
        kind.fill().await?;
        let written = kind.stored().await?;
        for from in schemas.iter().filter(|from| *from != to) {
            told(*from, false);
            kind.fill().await?;
            for schema in &schemas {
                told(*schema, false);
                kind.expect(READS).await?;
            }
            told(*to, true);
            let found = kind.check().await?;
            same(MENDS, "what is found of sound rows", &found, &Vec::new())?;
            told(*to, false);
            kind.expect(BRINGS).await?;
            let brought = kind.stored().await?;
            holds(BRINGS, brought == written, || {
                format!(
                    "rows of schema {from} that were brought to {to} are not as they are written in it"
                )
            })?;
        }
    }
    if let [first, .., last] = schemas[..] {
        told(first, false);
        kind.fill().await?;
        mends_nothing(kind, last).await?;
    }
    kind.tell(Told::default());
    Ok(())
}

/// Over a row of rubbish.
async fn mends_nothing(kind: &impl Kind, to: u32) -> Verdict {
    let Some((key, value)) = kind.stored().await?.into_iter().next() else { return Ok(()) };
    let rubbish = vec![0xff; value.len()];
    kind.damage(key.clone(), rubbish).await?;
    let before = kind.stored().await?.into_iter().find(|(other, _)| *other == key);
    kind.tell(Told { schema: Some(to), migrate: true });
    let found = kind.check().await?;
    holds(MENDS, !found.is_empty(), || "a row of rubbish is passed over".to_owned())?;
    let after = kind.stored().await?.into_iter().find(|(other, _)| *other == key);
    holds(MENDS, after == before, || {
        format!("a row of rubbish becomes {}", shown(&after.map(|(_, value)| value)))
    })
}
