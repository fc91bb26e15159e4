//! What the cluster's metrics say of this node. Names begin with `postroom_cluster_`.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use postroom_core::cluster::NodeState;

use super::Cluster;

/// How often they are brought up to date.
const EVERY: Duration = Duration::from_secs(1);

const STATES: [NodeState; 4] =
    [NodeState::Joining, NodeState::Up, NodeState::Draining, NodeState::Left];

/// Says what each is.
pub(super) fn describe() {
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!("postroom_cluster_nodes", "Nodes that are heard, by state.");
    describe_gauge!("postroom_cluster_silent_nodes", "Nodes that are known and not heard.");
    describe_gauge!("postroom_cluster_slots", "Slots open on this node.");
    describe_gauge!(
        "postroom_cluster_contested_slots",
        "Slots that several nodes say they have open; storage says who is right."
    );
    describe_gauge!("postroom_cluster_sessions", "This node's sessions with an active mailbox.");
    describe_gauge!(
        "postroom_cluster_visitors",
        "Sessions of other nodes with a mailbox active on this one."
    );
    describe_gauge!("postroom_cluster_calls", "Calls on their way, waiting or running.");
    describe_counter!("postroom_cluster_opened_total", "Slots claimed that nobody had.");
    describe_counter!(
        "postroom_cluster_taken_over_total",
        "Slots claimed from a node that was taken to be dead."
    );
    describe_counter!("postroom_cluster_released_total", "Slots let go.");
    describe_counter!("postroom_cluster_lost_total", "Slots lost to another node.");
    describe_counter!(
        "postroom_cluster_again_total",
        "Times that a call was sent or started after the first."
    );
    describe_counter!(
        "postroom_cluster_late_answers_total",
        "Answers dropped because their call was answered, or had been sent again since."
    );
    describe_counter!(
        "postroom_cluster_refused_calls_total",
        "Calls refused because too many were on their way."
    );
}

impl Cluster {
    /// Keeps the metrics up to date.
    pub(super) async fn measure(self: Arc<Self>) {
        let mut every = tokio::time::interval(EVERY);
        loop {
            every.tick().await;
            self.set_meters();
        }
    }

    fn set_meters(&self) {
        let (status, calls, (slots, of_calls)) =
            self.look(|table, machine| (table.status(), machine.calls().len(), machine.counts()));
        for state in STATES {
            let nodes = status.states.get(&state).copied().unwrap_or(0);
            gauge!("postroom_cluster_nodes", "state" => state.word()).set(nodes as f64);
        }
        gauge!("postroom_cluster_silent_nodes").set(status.silent as f64);
        gauge!("postroom_cluster_slots").set(self.owner.open().borrow().len() as f64);
        gauge!("postroom_cluster_contested_slots").set(status.contested.len() as f64);
        gauge!("postroom_cluster_sessions").set(self.attachments.len() as f64);
        gauge!("postroom_cluster_visitors").set(self.visitors.len() as f64);
        gauge!("postroom_cluster_calls").set(calls as f64);
        counter!("postroom_cluster_opened_total").absolute(slots.opened);
        counter!("postroom_cluster_taken_over_total").absolute(slots.taken_over);
        counter!("postroom_cluster_released_total").absolute(slots.released);
        counter!("postroom_cluster_lost_total").absolute(slots.lost);
        counter!("postroom_cluster_again_total").absolute(of_calls.again);
        counter!("postroom_cluster_late_answers_total").absolute(of_calls.late);
        counter!("postroom_cluster_refused_calls_total").absolute(of_calls.refused);
    }
}
