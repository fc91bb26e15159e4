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

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("postroom_connections", "Client connections now, by protocol.");
    describe_counter!("postroom_connections_total", "Client connections admitted, by protocol.");
    describe_counter!("postroom_refused_connections_total", "Connections not admitted, by reason.");
    describe_counter!("postroom_accept_errors_total", "Failures to accept a connection.");
    describe_counter!("postroom_tls_failures_total", "TLS handshakes that failed.");
    describe_counter!("postroom_received_octets_total", "Octets from clients, by protocol.");
    describe_counter!("postroom_sent_octets_total", "Octets to clients, by protocol.");
    describe_counter!("postroom_calls_total", "Calls to the message store, by kind and outcome.");
    describe_counter!("postroom_hooks_total", "Hooks asked and told, by function and outcome.");
    describe_histogram!("postroom_call_seconds", Unit::Seconds, "How long calls took, by kind.");
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
