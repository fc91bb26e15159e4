//! SEARCH: in pages, beside the account's writer; from the index first, then from what is derived,
//! then from octets, and each only for messages that are still undecided.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::ready;
use futures::{FutureExt, StreamExt, TryStreamExt};
use postroom_core::calls::{Reply, Want};
use postroom_core::error::StoreError;
use postroom_core::mailbox::Seen;
use postroom_core::mime::Derived;
use postroom_core::search::{Evidence, Facts, Query, Verdict};
use postroom_core::types::{ModSeq, Uid, UidSet};
use tracing::warn;

use crate::mailbox::now;

use super::MessageStore;
use super::calls::Asking;
use super::derived::{Known, off_threads};
use super::heavy::Run;
use super::limits::{MAX_RUN_OCTETS, PARALLEL_BODIES, SEARCH_PAGE};

/// A message, and whether it matches by what is in memory of it.
struct Judged {
    seen: Seen,
    known: Option<Known>,
    verdict: Verdict,
}

impl Judged {
    /// Octets that have to be read to decide.
    fn reads(&self) -> Option<u64> {
        match self.verdict {
            Verdict::Unknown => Some(self.seen.facts.size),
            Verdict::Yes | Verdict::No => None,
        }
    }

    fn hit(&self) -> (Uid, ModSeq) {
        (self.seen.facts.uid, self.seen.facts.modseq)
    }
}

impl MessageStore {
    pub(super) async fn search(
        &self,
        asking: &Asking<'_>,
        query: Query,
    ) -> Result<Reply, StoreError> {
        let query = query.prepared().map_err(|error| StoreError::Limit(error.to_string()))?;
        let query = Arc::new(query);
        let (now, mut found) = (now(), Vec::new());
        let mut next = Some(Uid::MIN);
        while let Some(first) = next {
            let uids = UidSet::range(first, Uid::MAX);
            let (seen, more) = self.seen(asking, uids, SEARCH_PAGE).await?;
            next = seen.last().filter(|_| more).and_then(|seen| seen.facts.uid.next());
            self.search_page(asking, &query, now, seen, &mut found).await?;
            // A large mailbox is looked through without keeping others from their turn.
            tokio::task::yield_now().await;
        }
        Ok(Reply::Found(found))
    }

    async fn search_page(
        &self,
        asking: &Asking<'_>,
        query: &Arc<Query>,
        now: i64,
        seen: Vec<Seen>,
        found: &mut Vec<(Uid, ModSeq)>,
    ) -> Result<(), StoreError> {
        let judged = seen.into_iter().map(|seen| self.judged(asking, query, seen, now));
        let mut left = judged.peekable();
        while left.peek().is_some() {
            let run = Run::next(&mut left, MAX_RUN_OCTETS, Judged::reads);
            let _turn = match run.reads {
                Some(octets) => Some(self.heavy_turn(octets).await?),
                None => None,
            };
            let reading = futures::stream::iter(run.messages).map(|judged| match judged.verdict {
                Verdict::Yes => ready(Ok(Some(judged.hit()))).left_future(),
                Verdict::No => ready(Ok(None)).left_future(),
                // Boxed: the compiler cannot see through the unboxed stream that it may cross
                // threads.
                Verdict::Unknown => async move {
                    let hit = judged.hit();
                    let matches = self.look_into(asking, query, judged, now).await?;
                    Ok::<_, StoreError>(matches.then_some(hit))
                }
                .boxed()
                .right_future(),
            });
            let hits: Vec<_> = reading.buffered(PARALLEL_BODIES).try_collect().await?;
            found.extend(hits.into_iter().flatten());
        }
        Ok(())
    }

    /// Looks at what is in memory of a message.
    fn judged(&self, asking: &Asking<'_>, query: &Query, seen: Seen, now: i64) -> Judged {
        let known = match query.needs_derived() {
            true => self.inner.derived.get((asking.account, seen.facts.message_id)),
            false => None,
        };
        let derived = known.as_ref().map(|known| &*known.derived);
        let verdict = matches(query, &seen, derived, None, now);
        Judged { seen, known, verdict }
    }

    /// Whether a message matches, by its octets. One that cannot be read matches nothing: the
    /// others are worth more than an error.
    async fn look_into(
        &self,
        asking: &Asking<'_>,
        query: &Arc<Query>,
        judged: Judged,
        now: i64,
    ) -> Result<bool, StoreError> {
        let Judged { seen, known, .. } = judged;
        let octets = match self.body(asking, seen.facts.uid).await {
            Ok(Some(octets)) => octets,
            Ok(None) => return Ok(false),
            Err(StoreError::Damaged(problem)) => {
                warn!(account = %asking.account, uid = %seen.facts.uid, problem, "not searched");
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let key = (asking.account, seen.facts.message_id);
        let want = Want { derived: true, ..Want::default() };
        let known = self.inner.derived.learn(key, known, want, &octets).await?;
        let query = query.clone();
        let judge = move || matches(&query, &seen, Some(&known.derived), Some(&octets), now);
        Ok(off_threads(judge).await? == Verdict::Yes)
    }
}

fn matches(
    query: &Query,
    seen: &Seen,
    derived: Option<&Derived>,
    octets: Option<&Bytes>,
    now: i64,
) -> Verdict {
    let facts = Facts {
        uid: seen.facts.uid,
        flags: &seen.flags,
        modseq: seen.facts.modseq,
        internal_date: seen.facts.internal_date,
        size: seen.facts.size,
        ids: Some((seen.facts.message_id, seen.facts.thread_id)),
    };
    query.matches(&Evidence { facts, derived, octets }, now)
}
