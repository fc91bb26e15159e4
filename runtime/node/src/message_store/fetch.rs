//! FETCH: facts from the index; derived data from the cache, or from the body; bodies.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use postroom_core::calls::{FetchedMessage, Reply, Want};
use postroom_core::error::StoreError;
use postroom_core::mailbox::Seen;
use postroom_core::mime::Derived;
use postroom_core::types::{Uid, UidSet};
use tokio::sync::SemaphorePermit;

use crate::mailbox::{Answer, Ask};

use super::MessageStore;
use super::calls::{Asking, mixed_up};
use super::limits::{HEAVY_PATIENCE, MAX_FETCH_OCTETS, MAX_FETCH_ROWS, PARALLEL_BODIES};

/// What was read of one message, and how many octets it takes in an answer.
struct Content {
    derived: Option<Arc<Derived>>,
    body: Option<Bytes>,
    octets: u64,
}

impl MessageStore {
    pub(super) async fn fetch(
        &self,
        asking: &Asking<'_>,
        uids: UidSet,
        want: Want,
    ) -> Result<Reply, StoreError> {
        let (seen, more) = self.seen(asking, uids, MAX_FETCH_ROWS).await?;
        if want == Want::default() {
            let nothing = || Content { derived: None, body: None, octets: 0 };
            let messages = seen.into_iter().map(|seen| message(seen, nothing())).collect();
            return Ok(Reply::Messages { messages, more });
        }
        let _turn = self.heavy_turn().await?;
        // Boxed: the compiler cannot see through the unboxed stream that it may cross threads.
        let reading = futures::stream::iter(seen).map(|seen| {
            async move {
                let content = self.content(asking, &seen, want).await;
                (seen, content)
            }
            .boxed()
        });
        let mut reading = std::pin::pin!(reading.buffered(PARALLEL_BODIES));
        let (mut messages, mut octets) = (Vec::new(), 0);
        while let Some((seen, content)) = reading.next().await {
            // A message that has gone from the view meanwhile is passed over.
            let Some(content) = content? else { continue };
            octets += content.octets;
            if octets > MAX_FETCH_OCTETS && !messages.is_empty() {
                return Ok(Reply::Messages { messages, more: true });
            }
            messages.push(message(seen, content));
        }
        Ok(Reply::Messages { messages, more })
    }

    /// What the index knows of messages.
    pub(super) async fn seen(
        &self,
        asking: &Asking<'_>,
        uids: UidSet,
        limit: usize,
    ) -> Result<(Vec<Seen>, bool), StoreError> {
        match self.ask(asking, Ask::Seen { uids, limit }).await? {
            Answer::Seen(seen, more) => Ok((seen, more)),
            _ => Err(mixed_up()),
        }
    }

    /// A turn among those who read bodies.
    pub(super) async fn heavy_turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let busy = || StoreError::Busy("too many calls read messages".into());
        let turn = tokio::time::timeout(HEAVY_PATIENCE, self.inner.heavy.acquire()).await;
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }

    /// A message's octets; `None` when the session does not see it any more.
    pub(super) async fn body(
        &self,
        asking: &Asking<'_>,
        uid: Uid,
    ) -> Result<Option<Bytes>, StoreError> {
        match self.ask(asking, Ask::Body(uid)).await? {
            Answer::Body(body) => Ok(body),
            _ => Err(mixed_up()),
        }
    }

    async fn content(
        &self,
        asking: &Asking<'_>,
        seen: &Seen,
        want: Want,
    ) -> Result<Option<Content>, StoreError> {
        let known = match want.derived {
            true => self.inner.derived.get(asking.account, seen.facts.message_id),
            false => None,
        };
        if let (Some((derived, octets)), false) = (&known, want.body) {
            let (derived, octets) = (Some(derived.clone()), *octets);
            return Ok(Some(Content { derived, body: None, octets }));
        }
        let Some(body) = self.body(asking, seen.facts.uid).await? else { return Ok(None) };
        let derived = match (known, want.derived) {
            (Some(known), _) => Some(known),
            (None, true) => {
                let cache = &self.inner.derived;
                Some(cache.derive(asking.account, seen.facts.message_id, body.clone()).await?)
            }
            (None, false) => None,
        };
        let body = want.body.then_some(body);
        let octets = derived.as_ref().map_or(0, |known| known.1)
            + body.as_ref().map_or(0, |body| body.len() as u64);
        Ok(Some(Content { derived: derived.map(|known| known.0), body, octets }))
    }
}

fn message(seen: Seen, content: Content) -> FetchedMessage {
    let facts = seen.facts;
    FetchedMessage {
        uid: facts.uid,
        flags: seen.flags,
        modseq: facts.modseq,
        internal_date: facts.internal_date,
        save_date: facts.save_date,
        size: facts.size,
        message_id: facts.message_id,
        thread_id: facts.thread_id,
        derived: content.derived,
        body: content.body,
    }
}
