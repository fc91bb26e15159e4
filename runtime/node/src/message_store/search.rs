//! SEARCH: in pages, beside the account's writer; from the index first, then from what is derived,
//! then from octets, and each only for messages that are still undecided.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use postroom_core::calls::Reply;
use postroom_core::error::StoreError;
use postroom_core::mailbox::Seen;
use postroom_core::mime::Derived;
use postroom_core::search::{Evidence, Facts, Query, Verdict};
use postroom_core::types::{ModSeq, Uid, UidSet};
use tracing::warn;

use crate::mailbox::now;

use super::MessageStore;
use super::calls::Asking;
use super::derived::off_threads;
use super::limits::{PARALLEL_BODIES, SEARCH_PAGE};

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
        let first = |seen: Seen| {
            let known = match query.needs_derived() {
                true => self.inner.derived.get(asking.account, seen.facts.message_id),
                false => None,
            };
            let verdict = matches(query, &seen, known.as_ref().map(|known| &*known.0), None, now);
            (seen, known.map(|known| known.0), verdict)
        };
        let judged: Vec<_> = seen.into_iter().map(first).collect();
        let _turn = match judged.iter().any(|(_, _, verdict)| *verdict == Verdict::Unknown) {
            true => Some(self.heavy_turn().await?),
            false => None,
        };
        // Boxed: the compiler cannot see through the unboxed stream that it may cross threads.
        let reading = futures::stream::iter(judged).map(|(seen, derived, verdict)| {
            async move {
                let matches = match verdict {
                    Verdict::Yes => true,
                    Verdict::No => false,
                    Verdict::Unknown => self.look_into(asking, query, &seen, derived, now).await?,
                };
                Ok::<_, StoreError>(matches.then_some((seen.facts.uid, seen.facts.modseq)))
            }
            .boxed()
        });
        let hits: Vec<_> = reading.buffered(PARALLEL_BODIES).try_collect().await?;
        found.extend(hits.into_iter().flatten());
        Ok(())
    }

    /// Whether a message matches, by its octets. One that cannot be read matches nothing: the
    /// others are worth more than an error.
    async fn look_into(
        &self,
        asking: &Asking<'_>,
        query: &Arc<Query>,
        seen: &Seen,
        derived: Option<Arc<Derived>>,
        now: i64,
    ) -> Result<bool, StoreError> {
        let octets = match self.body(asking, seen.facts.uid).await {
            Ok(Some(octets)) => octets,
            Ok(None) => return Ok(false),
            Err(StoreError::Damaged(problem)) => {
                warn!(uid = %seen.facts.uid, problem, "not searched");
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let derived = match derived {
            Some(derived) => derived,
            None => {
                let (account, id) = (asking.account, seen.facts.message_id);
                self.inner.derived.derive(account, id, octets.clone()).await?.0
            }
        };
        let (query, seen) = (query.clone(), seen.clone());
        let judge = move || matches(&query, &seen, Some(&derived), Some(&octets), now);
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
