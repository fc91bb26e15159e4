//! Metrics of the front. Names begin with `postroom_`; a label never carries what a client chose.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use postroom_core::calls::Reply;
use postroom_core::error::StoreError;

use super::calls::error_kind;

/// Upper bounds of the latency histogram, in seconds: from an answer out of memory to a store
/// component that is about to be given up.
const SECONDS: &[f64] = &[0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
/// How often old samples are folded together when nobody scrapes, in seconds.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the recorder of this process; fails when there is one already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let calls = Matcher::Full("postroom_call_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(calls, SECONDS)?;
    let handle = builder.install_recorder()?;
    describe();
    Ok(handle)
}

/// What each metric is, as `/metrics` tells it; those of the cluster are told where they are counted.
fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    const COUNTERS: &[(&str, &str)] = &[
        ("postroom_connections_total", "Client connections admitted, by protocol."),
        ("postroom_refused_connections_total", "Connections not admitted, by reason."),
        ("postroom_accept_errors_total", "Failures to accept a connection."),
        ("postroom_tls_failures_total", "TLS handshakes that failed."),
        ("postroom_received_octets_total", "Octets from clients, by protocol."),
        ("postroom_sent_octets_total", "Octets to clients, by protocol."),
        ("postroom_calls_total", "Calls to the message store, by kind and outcome."),
        ("postroom_hooks_total", "Hooks asked and told, by function and outcome."),
        ("postroom_guest_calls_total", "Calls to store components, by function and outcome."),
        ("postroom_guest_reads_repeated_total", "Reads made again since their instance was lost."),
        ("postroom_guest_instances_lost_total", "Instances that trapped or ran over, by reason."),
        ("postroom_guest_instances_retired_total", "Instances replaced before harm, by reason."),
        ("postroom_guest_quarantine_refusals_total", "Calls refused as they had killed instances."),
        ("postroom_guest_cache_total", "Components found compiled, or not."),
        ("postroom_store_switches_total", "Switches of a store's component, by outcome."),
        ("postroom_store_rewritten_total", "Rows that sweeps have brought to another schema."),
        ("postroom_storage_commits_total", "Transactions committed."),
        ("postroom_storage_refused_total", "Transactions that storage refused."),
        ("postroom_storage_groups_total", "Groups of transactions made durable together."),
        ("postroom_storage_syncs_total", "Times that a disk was asked to make durable."),
        ("postroom_storage_row_octets_total", "Octets of rows written."),
        ("postroom_storage_bodies_total", "Bodies written."),
        ("postroom_storage_segment_octets_total", "Octets written to segments."),
        ("postroom_storage_snapshot_octets_total", "Octets of rows written a second time."),
        ("postroom_storage_recoveries_total", "Times that an engine was opened after a crash."),
        ("postroom_storage_rebuilds_total", "Times that rows were made anew out of the log."),
        ("postroom_link_calls_total", "Calls to other nodes, by outcome."),
        (
            "postroom_link_refused_total",
            "What strangers and peers were refused, by reason and place.",
        ),
        ("postroom_gossip_datagrams_total", "Datagrams of gossip sent, by outcome."),
        ("postroom_gossip_octets_total", "Octets of gossip sent."),
    ];
    const GAUGES: &[(&str, &str)] = &[
        ("postroom_connections", "Client connections now, by protocol."),
        ("postroom_guest_instances", "Instances of store components, by component."),
        ("postroom_guest_quarantined", "Operations that store components are not given any more."),
        ("postroom_store_generation", "Number of the generation of a store that serves."),
        ("postroom_store_sweep_accounts", "Accounts that a sweep has looked at, and all of them."),
        ("postroom_store_sweep_failures", "Accounts whose rows a sweep could not bring over."),
    ];
    const SECONDS: &[(&str, &str)] = &[
        ("postroom_call_seconds", "How long calls took, by kind."),
        ("postroom_guest_call_seconds", "How long calls to store components took, by function."),
        ("postroom_commit_seconds", "How long commits of an account took."),
        ("postroom_link_call_seconds", "How long calls to other nodes took."),
    ];
    COUNTERS.iter().for_each(|(name, what)| describe_counter!(*name, *what));
    GAUGES.iter().for_each(|(name, what)| describe_gauge!(*name, *what));
    SECONDS.iter().for_each(|(name, what)| describe_histogram!(*name, Unit::Seconds, *what));
    describe_histogram!("postroom_batch_operations", "Operations committed together.");
}

/// The meters of one protocol's connections.
#[derive(Clone)]
pub struct Meters {
    protocol: &'static str,
    /// Connections now.
    pub connections: Gauge,
    /// Connections so far.
    pub admitted: Counter,
    /// Octets that came.
    pub received: Counter,
    /// Octets that went.
    pub sent: Counter,
    /// Failed handshakes.
    pub tls_failures: Counter,
    /// Failures to accept.
    pub accept_errors: Counter,
}

impl Meters {
    /// Of a protocol.
    pub fn new(protocol: &'static str) -> Self {
        Self {
            protocol,
            connections: gauge!("postroom_connections", "protocol" => protocol),
            admitted: counter!("postroom_connections_total", "protocol" => protocol),
            received: counter!("postroom_received_octets_total", "protocol" => protocol),
            sent: counter!("postroom_sent_octets_total", "protocol" => protocol),
            tls_failures: counter!("postroom_tls_failures_total", "protocol" => protocol),
            accept_errors: counter!("postroom_accept_errors_total", "protocol" => protocol),
        }
    }

    /// A connection was not admitted.
    pub fn refused(&self, reason: &'static str) {
        let labels = [("protocol", self.protocol), ("reason", reason)];
        counter!("postroom_refused_connections_total", &labels).increment(1);
    }

    /// A call was answered.
    pub fn called(&self, kind: &'static str, took: Duration, answer: &Result<Reply, StoreError>) {
        let outcome = answer.as_ref().map_or_else(error_kind, |_| "ok");
        let labels = [("protocol", self.protocol), ("call", kind), ("outcome", outcome)];
        counter!("postroom_calls_total", &labels).increment(1);
        let seconds: Histogram = histogram!("postroom_call_seconds", "call" => kind);
        seconds.record(took);
    }
}
