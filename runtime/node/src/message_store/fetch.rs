//! FETCH: facts from the index; derived data and headers from the cache, or from the body; bodies.
//!
//! Bodies are read in runs that fit in memory together. A message that cannot be read comes without
//! what was wanted of it, and the others come.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::ready;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use postroom_core::calls::{FetchedMessage, Reply, Want};
use postroom_core::error::StoreError;
use postroom_core::mailbox::Seen;
use postroom_core::mime::Derived;
use postroom_core::types::{Uid, UidSet};
use tracing::warn;

use crate::mailbox::{Answer, Ask};

use super::MessageStore;
use super::calls::{Asking, mixed_up};
use super::derived::Known;
use super::heavy::Run;
use super::limits::{
    MAX_CONTENT_ROWS, MAX_FETCH_OCTETS, MAX_FETCH_ROWS, MAX_RUN_OCTETS, PARALLEL_BODIES,
};

/// What was read of one message, and how many octets it takes in an answer.
#[derive(Default)]
struct Content {
    derived: Option<Arc<Derived>>,
    header: Option<Bytes>,
    body: Option<Bytes>,
    octets: u64,
}

/// A message on its way into an answer.
struct Asked {
    seen: Seen,
    source: Source,
}

/// Where a message's content comes from.
enum Source {
    /// It is here.
    Memory(Content),
    /// Out of its body, and what is remembered.
    Body(Option<Known>),
}

/// An answer in the making.
#[derive(Default)]
struct Page {
    messages: Vec<FetchedMessage>,
    octets: u64,
}

impl Asked {
    /// Octets that have to be read for it.
    fn reads(&self) -> Option<u64> {
        match self.source {
            Source::Memory(_) => None,
            Source::Body(_) => Some(self.seen.facts.size),
        }
    }
}

impl Page {
    /// Whether so many octets more fit.
    fn fits(&self, octets: u64) -> bool {
        self.messages.is_empty() || self.octets.saturating_add(octets) <= MAX_FETCH_OCTETS
    }

    /// Adds a message; false: it does not fit.
    fn add(&mut self, seen: Seen, content: Content) -> bool {
        let fits = self.fits(content.octets);
        if fits {
            self.octets += content.octets;
            self.messages.push(message(seen, content));
        }
        fits
    }

    fn answer(self, more: bool) -> Reply {
        Reply::Messages { messages: self.messages, more }
    }
}

impl MessageStore {
    pub(super) async fn fetch(
        &self,
        asking: &Asking<'_>,
        uids: UidSet,
        want: Want,
    ) -> Result<Reply, StoreError> {
        if want == Want::default() {
            let (seen, more) = self.seen(asking, uids, MAX_FETCH_ROWS).await?;
            let messages = seen.into_iter().map(|seen| message(seen, Content::default())).collect();
            return Ok(Reply::Messages { messages, more });
        }
        let (seen, more) = self.seen(asking, uids, MAX_CONTENT_ROWS).await?;
        let mut left = seen.into_iter().map(|seen| self.asked(asking, seen, want)).peekable();
        let mut page = Page::default();
        while let Some(next) = left.peek() {
            // Bodies that go into the answer are read only if they fit in it.
            let most = match want.body {
                true if !page.fits(next.seen.facts.size) => return Ok(page.answer(true)),
                true => MAX_FETCH_OCTETS.saturating_sub(page.octets),
                false => MAX_RUN_OCTETS,
            };
            let run = Run::next(&mut left, most, Asked::reads);
            let _turn = match run.reads {
                Some(octets) => Some(self.heavy_turn(octets).await?),
                None => None,
            };
            let mut contents = self.contents(asking, run, want);
            while let Some((seen, content)) = contents.next().await {
                // A message that has gone from the view meanwhile is passed over.
                let Some(content) = content? else { continue };
                if !page.add(seen, content) {
                    return Ok(page.answer(true));
                }
            }
        }
        Ok(page.answer(more))
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

    /// Looks at what is remembered of a message.
    fn asked(&self, asking: &Asking<'_>, seen: Seen, want: Want) -> Asked {
        let known = match want.derived || want.header {
            true => self.inner.derived.get((asking.account, seen.facts.message_id)),
            false => None,
        };
        let source = match known {
            Some(known) if !want.body && (!want.header || known.header.is_some()) => {
                Source::Memory(content(&known, want, None))
            }
            known => Source::Body(known),
        };
        Asked { seen, source }
    }

    /// The contents of a run of messages, in order.
    fn contents<'a>(
        &'a self,
        asking: &'a Asking<'a>,
        run: Run<Asked>,
        want: Want,
    ) -> BoxStream<'a, (Seen, Result<Option<Content>, StoreError>)> {
        let reading = move |Asked { seen, source }| match source {
            Source::Memory(content) => ready((seen, Ok(Some(content)))).left_future(),
            // Boxed: the compiler cannot see through the unboxed stream that it may cross threads.
            Source::Body(known) => async move {
                let content = self.read(asking, &seen, known, want).await;
                (seen, content)
            }
            .boxed()
            .right_future(),
        };
        futures::stream::iter(run.messages).map(reading).buffered(PARALLEL_BODIES).boxed()
    }

    /// What is wanted of a message, with the help of its body. Nothing of it when it cannot be read:
    /// the others are worth more than an error.
    async fn read(
        &self,
        asking: &Asking<'_>,
        seen: &Seen,
        known: Option<Known>,
        want: Want,
    ) -> Result<Option<Content>, StoreError> {
        let body = match self.body(asking, seen.facts.uid).await {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(None),
            Err(StoreError::Damaged(problem)) => {
                warn!(account = %asking.account, uid = %seen.facts.uid, problem, "not fetched");
                return Ok(Some(Content::default()));
            }
            Err(error) => return Err(error),
        };
        if !want.derived && !want.header {
            let octets = body.len() as u64;
            return Ok(Some(Content { body: Some(body), octets, ..Content::default() }));
        }
        let key = (asking.account, seen.facts.message_id);
        let known = self.inner.derived.learn(key, known, want, &body).await?;
        Ok(Some(content(&known, want, Some(body))))
    }
}

/// What is wanted of a message, out of what is known of it.
fn content(known: &Known, want: Want, body: Option<Bytes>) -> Content {
    let large_header = || {
        let header = known.derived.header(body.as_ref()?)?;
        // A copy, unless the whole message is in the answer anyway.
        Some(if want.body { header } else { Bytes::copy_from_slice(&header) })
    };
    let header = match want.header {
        true => known.header.clone().or_else(large_header),
        false => None,
    };
    let body = body.filter(|_| want.body);
    let (derived, derived_octets) = match want.derived {
        true => (Some(known.derived.clone()), known.octets),
        false => (None, 0),
    };
    let parts = [&header, &body].into_iter().flatten();
    let octets = derived_octets + parts.map(|part| part.len() as u64).sum::<u64>();
    Content { derived, header, body, octets }
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
        header: content.header,
        body: content.body,
    }
}
