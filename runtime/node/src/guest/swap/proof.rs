//! Lets the version before read what one on probation has written, before anybody commits it. A version
//! that writes politely and wrongly fails at nothing, and once it is committed both versions read the same
//! wrong rows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use postroom_core::error::StoreError;
use postroom_core::records::MessageRow;

use super::SwappableStore;
use super::run::Place;
use crate::guest::api::{CallInfo, MessagePlace, Messages};
use crate::guest::component::StoreComponent;
use crate::guest::pool::Verb;
use crate::storage::Txn;

/// Of so many writes of messages on probation one is looked at: each costs a read more.
const EVERY: u64 = 8;

/// Messages of one write that are looked at; what changes more at once is not held up by it.
const MOST: usize = 256;

/// Who looks at a write.
struct Proof {
    /// The version on probation.
    by: Arc<StoreComponent>,
    /// In the one before.
    before: Place,
}

/// A write of messages, and how it is looked at.
pub(super) struct Written<A, P, K> {
    /// What is written.
    pub(super) arguments: A,
    /// Where.
    pub(super) places: P,
    /// Whether what is read there is what was written.
    pub(super) is_kept: K,
}

impl SwappableStore {
    /// Who is to look at the next write of messages; none, most of the time and without a version on
    /// probation.
    fn proof(&self) -> Option<Proof> {
        let slots = self.lock();
        let previous = slots.previous.as_ref().filter(|_| slots.serving.tentative)?;
        let due = slots.serving.proofs.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVERY);
        due.then(|| Proof {
            by: slots.serving.component.clone(),
            before: Place::in_generation(previous),
        })
    }

    /// Writes messages. What a version on probation has written otherwise than it was told is taken back
    /// and written by the one before, which serves again.
    pub(super) async fn write_messages<A, P, K, F>(
        &self,
        verb: Verb,
        info: CallInfo,
        txn: &Txn,
        written: Written<A, P, K>,
        call: impl Fn(Arc<StoreComponent>, Txn, A) -> F + Send + Sync,
    ) -> Result<(), StoreError>
    where
        A: Clone + Send + Sync,
        P: FnOnce(&A) -> Vec<MessagePlace> + Send,
        K: Fn(&A, &[Option<MessageRow>]) -> bool + Send + Sync,
        F: Future<Output = Result<(), StoreError>> + Send,
    {
        let Written { arguments, places, is_kept } = written;
        let looked_at = self.proof().map(|proof| (proof, places(&arguments)));
        let Some((proof, places)) = looked_at.filter(|(_, places)| places.len() <= MOST) else {
            return self.write(verb, txn, arguments, call).await;
        };
        let attempt = txn.attempt();
        self.write(verb, &attempt.txn(), arguments.clone(), &call).await?;
        let (before, view) = (proof.before.generation.component.clone(), attempt.txn().view());
        let wrong = match Messages::select(&*before, info, &view, places).await {
            Ok(rows) => !is_kept(&arguments, &rows),
            // It reads all that the new one may write: otherwise there would be no probation.
            Err(StoreError::Broken(_) | StoreError::Damaged(_)) => true,
            // Where storage is away nothing is known, and nothing will be committed.
            Err(_) => false,
        };
        if !wrong {
            return Ok(());
        }
        txn.take_back(&attempt);
        let why = format!("{verb}: the version before does not read what was to be written");
        self.trip(&proof.by, why);
        self.write(verb, txn, arguments, call).await
    }
}
