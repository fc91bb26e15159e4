//! The conformance kit over the node's own hosting and storage: a component, as a node would load it,
//! as the subject of the kit's cases. `postroom store check` runs them, and so do the tests of the
//! stores in `guest-stores/`.

pub mod convert;

mod gate;
mod subject;

pub use subject::{Instances, Subject};

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use postroom_kit::records::{Domain, Mailbox, User};
use postroom_kit::run::{Planned, Ran};

use crate::guest::{ComponentSource, Grants, Host, Kind, Lift, Limits, StoreComponent, Writes};
use crate::storage::MemoryEngine;

/// Instances of a component as this host loads it.
pub struct Fresh {
    /// What loads it.
    pub host: Arc<Host>,
    /// Its file.
    pub source: ComponentSource,
    /// What it is granted.
    pub grants: Grants,
    /// What bounds it; there is one instance, whatever they say.
    pub limits: Limits,
}

#[async_trait]
impl Instances<StoreComponent> for Fresh {
    async fn fresh(&self) -> Result<Arc<StoreComponent>, String> {
        let limits = Limits { instances: 1, ..self.limits.clone() };
        let loaded = self.host.load(self.source.clone(), &self.grants, limits).await;
        loaded.map_err(|error| format!("the component {error}"))
    }

    fn one_call_at_a_time(&self, store: &StoreComponent) -> bool {
        store.inspection().lift == Lift::Sync
    }

    fn handles(&self, store: &StoreComponent) -> usize {
        store.handles()
    }

    fn schemas(&self, store: &StoreComponent) -> Vec<u32> {
        schemas(store)
    }
}

/// Most schemas of one component that cases are asked in; the newest ones.
const MAX_SCHEMAS: u32 = 4;

/// The schemas in which a component writes as it is told.
pub fn schemas(store: &StoreComponent) -> Vec<u32> {
    let manifest = store.inspection().manifest.as_ref();
    match manifest.map(|manifest| manifest.schema.writes) {
        Some(Writes::Told([oldest, newest])) => {
            (oldest.max(newest.saturating_sub(MAX_SCHEMAS - 1))..=newest).collect()
        }
        Some(Writes::One(_)) | None => Vec::new(),
    }
}

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
