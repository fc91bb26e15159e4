//! What a component has to stand on each node before it serves there: the cases of the conformance
//! kit that find what is wrong while nothing else goes wrong, over storage of its own in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postroom_kit::cases::Level;
use postroom_kit::run::{Outcome, plan};
use tokio::runtime::Handle;

use crate::conformance::{Fresh, run_case};
use crate::guest::{ComponentFrom, ComponentSource, Grants, Host, Kind, Limits};

/// How long all cases together may take: they take seconds, a broken component must not hold a
/// deployment up.
const TIME: Duration = Duration::from_secs(90);
/// Whatever it is: what one seed shows is shown by all.
const SEED: u64 = 1;

/// Runs the cases for these kinds of record, on a thread of their own; the first thing that is wrong, in
/// one line.
pub(super) async fn verify(
    host: Arc<Host>,
    octets: Bytes,
    kinds: Vec<Kind>,
    grants: Grants,
    limits: Limits,
) -> Result<(), String> {
    let runtime = Handle::current();
    let running = tokio::task::spawn_blocking(move || {
        let cases = cases(&host, octets, &kinds, &grants, &limits);
        runtime.block_on(async { tokio::time::timeout(TIME, cases).await })
    });
    match running.await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(_)) => Err(format!("its verification did not end within {} s", TIME.as_secs())),
        Err(error) => Err(format!("its verification failed: {error}")),
    }
}

async fn cases(
    host: &Arc<Host>,
    octets: Bytes,
    kinds: &[Kind],
    grants: &Grants,
    limits: &Limits,
) -> Result<(), String> {
    let source =
        ComponentSource { name: "verified".to_owned(), from: ComponentFrom::Octets(octets) };
    for case in plan(Level::Keeps) {
        let Some(kind) = kinds.iter().copied().find(|kind| kind.name() == case.interface) else {
            continue;
        };
        let fresh = Fresh {
            host: host.clone(),
            source: source.clone(),
            grants: grants.clone(),
            limits: limits.clone(),
        };
        match run_case(case, kind, SEED, fresh, ()).await.outcome {
            Outcome::Passed | Outcome::NotApplicable(_) => {}
            Outcome::Failed(failure) => {
                return Err(format!("{} ({}): {}", failure.promise, case.name(), failure.what));
            }
            Outcome::NotRun(why) => return Err(format!("{}: {why}", case.name())),
        }
    }
    Ok(())
}
