//! Looks at other nodes' heartbeats that calls share: a thousand calls that wait for one node cost storage
//! no more than one does.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use postroom_core::cluster::NodeId;

/// For how long after it was begun a look serves others too. Who hears of it then hears that much later
/// that a node is dead.
const SHARED_FOR: Duration = Duration::from_millis(200);

/// Those under way, and those just made: of each node that calls wait for one at most.
#[derive(Default)]
pub struct Looks(Mutex<HashMap<NodeId, Look>>);

struct Look {
    begun: Instant,
    is_dead: Shared<BoxFuture<'static, bool>>,
}

impl Looks {
    /// Whether `node` is dead: by a look that was begun a moment ago, else by the one that `begin` makes now.
    ///
    /// A look is a task of its own, which goes to its end whoever still waits for it: it has a connection to
    /// storage, of which there are few, and would keep it for good if nobody polled it any more.
    pub fn is_dead(
        &self,
        node: &NodeId,
        now: Instant,
        begin: impl FnOnce() -> BoxFuture<'static, bool>,
    ) -> Shared<BoxFuture<'static, bool>> {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.retain(|_, look| now.saturating_duration_since(look.begun) < SHARED_FOR);
        let fresh = || {
            let look = tokio::spawn(begin());
            // One that has panicked has found nothing out.
            let is_dead = async move { look.await.unwrap_or(false) };
            Look { begun: now, is_dead: is_dead.boxed().shared() }
        };
        looks.entry(node.clone()).or_insert_with(fresh).is_dead.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn calls_share_a_look_for_a_moment_and_then_look_again() {
        let (looks, reads) = (Looks::default(), Arc::new(AtomicUsize::new(0)));
        let read = |answer| {
            let reads = reads.clone();
            move || {
                let read = async move {
                    reads.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    answer
                };
                read.boxed()
            }
        };
        let (one, two): (NodeId, NodeId) = ("one".parse().unwrap(), "two".parse().unwrap());
        let now = Instant::now();
        let asked: Vec<_> = (0..1_000).map(|_| looks.is_dead(&one, now, read(false))).collect();
        // The first goes away before there is an answer.
        let mut asked = asked.into_iter();
        drop(asked.next());
        assert!(!futures::future::join_all(asked).await.contains(&true));
        assert!(looks.is_dead(&two, now, read(true)).await, "another node is looked at itself");
        let shortly = now + SHARED_FOR - Duration::from_millis(1);
        assert!(!looks.is_dead(&one, shortly, read(true)).await);
        assert_eq!(reads.load(Ordering::Relaxed), 2);
        assert!(looks.is_dead(&one, now + SHARED_FOR, read(true)).await);
        assert_eq!(reads.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_look_comes_to_its_end_though_nobody_waits_for_it_any_more() {
        let (looks, one) = (Looks::default(), "one".parse().unwrap());
        let connection = Arc::new(());
        let held = connection.clone();
        let (answer, answered) = tokio::sync::oneshot::channel::<bool>();
        let look = async move {
            let is_dead = answered.await.unwrap();
            drop(held);
            is_dead
        };
        let asked = looks.is_dead(&one, Instant::now(), || look.boxed());
        // It has begun, and whoever asked goes away.
        assert_eq!(asked.clone().now_or_never(), None);
        drop(asked);
        answer.send(true).unwrap();
        let ended = async {
            while Arc::strong_count(&connection) > 1 {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, ended).await.expect("the connection is given back");
    }
}
