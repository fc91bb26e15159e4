//! The conformance kit over the node's own hosting and storage: a component, as a node would load it,
//! as the subject of the kit's cases. `postroom store check` runs them, and so do the tests of the
//! stores in `guest-stores/`.

pub mod convert;

mod gate;
mod subject;

pub use subject::{Instances, Subject};

use std::any::Any;
use std::sync::Arc;

use postroom_kit::records::{Domain, Mailbox, User};
use postroom_kit::run::{Planned, Ran};

use crate::guest::{Kind, StoreComponent};
use crate::storage::MemoryEngine;

/// Runs a case over instances from this source; what is to be kept is dropped after it. That none can be
/// made is the component's fault: the first has been made before any case.
pub async fn run_case(
    case: Planned,
    kind: Kind,
    seed: u64,
    source: impl Instances<StoreComponent> + 'static,
    kept: impl Any + Send + Sync,
) -> Ran {
    let subject = match Subject::new(source, Arc::new(MemoryEngine::new()), kind).await {
        Ok(subject) => subject.keeping(kept),
        Err(why) => return case.not_started(why),
    };
    match kind {
        Kind::Domains => case.of_records::<Domain, _>(subject, seed).await,
        Kind::Users => case.of_records::<User, _>(subject, seed).await,
        Kind::Mailboxes => case.of_records::<Mailbox, _>(subject, seed).await,
        Kind::Messages => case.of_messages(subject, seed).await,
    }
}
