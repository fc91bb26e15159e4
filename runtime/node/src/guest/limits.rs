//! What an operator sets for the hosting of store components: every limit with its unit, its
//! default and its reason.
//!
//! Each is enforced, or a component that cannot have it is not loaded. The test of `tests/limits.rs`
//! passes every one of them, and fails when there is one that it does not know.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest that a component may be set up to keep a caller waiting ([`Limits::answer_time`]). Whoever
/// calls has a deadline behind it, so that it is always the component's own deadlines that end a
/// call: they know which instance to drop, and say why.
pub const MAX_ANSWER_TIME: Duration = Duration::from_secs(75);
/// Longest quarantine: an operator who has mended something waits no longer.
const MAX_QUARANTINE_S: u64 = 24 * 3600;
/// Handles without which no call can enter an instance.
const MIN_HANDLES: u32 = 2;

/// How a node hosts store components; one for the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Live instances of all components together. Bounds what the pooling allocator reserves:
    /// address space only, some 60 KiB of memory for each that lives. One is kept free at each load:
    /// an instance that retires is replaced before it goes.
    pub max_instances: u32,
    /// Largest linear memory that any component may be granted, in MiB (at most 4,096). Bounds
    /// [`Limits::memory_mib`].
    pub max_memory_mib: u32,
    /// Stack of guest code, in KiB; what goes deeper traps. Wasmtime keeps one for each call that
    /// waits inside a guest that lifts synchronously, and one for each instance. Enough for deep
    /// recursion over a mail's parts, little against the memory of an instance. At least 64 (what
    /// start-up code of a language takes), at most 16,384.
    pub stack_kib: u32,
    /// Largest component file, in MiB. A Python component has 20 MiB.
    pub max_component_mib: u32,
    /// Where compiled code is kept, so that a restart does not compile again; `None`: nowhere.
    pub cache: Option<PathBuf>,
    /// Most compiled code kept there, in MiB; the oldest goes first.
    pub cache_mib: u32,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            max_instances: 256,
            max_memory_mib: 1024,
            stack_kib: 512,
            max_component_mib: 64,
            cache: None,
            cache_mib: 1024,
        }
    }
}

/// What one component may use. Each of its instances has the limits for itself, except where said
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Instances that share the accounts. A trap costs one instance's calls, so there are several;
    /// more than cores only help components that take one call at a time.
    pub instances: u32,
    /// Calls in one instance at a time, where the component takes several: what is lost with an
    /// instance.
    pub calls: u32,
    /// Calls that wait for one instance; above it a call is answered `Busy` at once.
    pub queue: u32,
    /// Longest wait for a place in an instance, in milliseconds; then `Busy`.
    pub queue_ms: u64,
    /// Wall time of one call, in milliseconds. A call cannot be cancelled: when it is over, its
    /// instance is dropped with all its calls, so it is far above what a healthy call takes. With
    /// [`Self::queue_ms`] twice within [`MAX_ANSWER_TIME`].
    pub call_ms: u64,
    /// CPU time of one call, in milliseconds; then its instance is dropped, too. Above what the
    /// heaviest call takes (a check of a thousand rows takes some 10 ms, a slow language ten times
    /// that), and below [`Self::call_ms`], so that it is the guest that spins which is blamed, and
    /// not who waits behind it; above that, wall time ends a call first. Start-up code of an instance
    /// has as much.
    pub cpu_ms: u64,
    /// Wall time of one host call that waits (a read of storage), in milliseconds; below
    /// [`Self::call_ms`], so that the guest still can answer.
    pub import_ms: u64,
    /// Linear memory, in MiB. A growth above it fails inside the guest. An instance that uses more
    /// than three quarters of what its start-up code has left is replaced.
    pub memory_mib: u32,
    /// What one host call may carry out of the guest, in MiB: the largest answer (octets of a
    /// message, a page of rows) and slack.
    pub transfer_mib: u32,
    /// Handles that a guest holds at a time. A healthy one holds a few for each running call and one
    /// for each message that it is given; a call waits until there are as many free. An instance that
    /// holds more than half is replaced.
    pub handles: u32,
    /// Lines of standard output and error together that reach the log, a second; the rest is counted
    /// and dropped.
    pub log_lines: u32,
    /// Calls after which an instance is replaced by a fresh one, with jitter: bounds what a slow
    /// leak can gather. Zero: never.
    pub retire_calls: u64,
    /// Age in seconds after which an instance is replaced, with jitter. Zero: never.
    pub retire_s: u64,
    /// Time for the running calls of a retired instance, in milliseconds; then it is dropped.
    pub drain_ms: u64,
    /// How long an operation that has cost two instances is refused, in seconds; at most a day. Then
    /// it is tried again, alone. Zero: it is always tried.
    pub quarantine_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instances: 4,
            calls: 256,
            queue: 4096,
            queue_ms: 5_000,
            call_ms: 30_000,
            cpu_ms: 10_000,
            import_ms: 20_000,
            memory_mib: 256,
            transfer_mib: 72,
            handles: 16_384,
            log_lines: 20,
            retire_calls: 10_000_000,
            retire_s: 24 * 3600,
            drain_ms: 60_000,
            quarantine_s: 300,
        }
    }
}

impl Limits {
    /// Wall time of one call.
    pub fn call_time(&self) -> Duration {
        Duration::from_millis(self.call_ms)
    }

    /// CPU time of one call.
    pub fn cpu_time(&self) -> Duration {
        Duration::from_millis(self.cpu_ms)
    }

    /// Wall time of one host call.
    pub fn import_time(&self) -> Duration {
        Duration::from_millis(self.import_ms)
    }

    /// Longest wait for a place.
    pub fn queue_time(&self) -> Duration {
        Duration::from_millis(self.queue_ms)
    }

    /// Time to finish running calls.
    pub fn drain_time(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    /// Time for which an operation is refused.
    pub fn quarantine_time(&self) -> Duration {
        Duration::from_secs(self.quarantine_s)
    }

    /// Longest until a caller is answered: a place waited for and a call, twice.
    pub fn answer_time(&self) -> Duration {
        2 * (self.queue_time() + self.call_time())
    }

    /// Octets of linear memory.
    pub fn memory(&self) -> usize {
        mib(self.memory_mib)
    }

    /// Octets that one host call may carry out of the guest.
    pub fn transfer(&self) -> usize {
        mib(self.transfer_mib)
    }

    /// The first limit that this node cannot keep, in one line.
    pub fn refused_by(&self, host: &HostConfig) -> Option<String> {
        let zero = [
            ("instances", self.instances),
            ("calls", self.calls),
            ("memory_mib", self.memory_mib),
            ("transfer_mib", self.transfer_mib),
        ];
        if let Some((name, _)) = zero.into_iter().find(|(_, value)| *value == 0) {
            return Some(format!("{name} must be at least 1"));
        }
        if self.call_ms == 0 || self.import_ms == 0 || self.cpu_ms == 0 {
            return Some("call_ms, cpu_ms and import_ms must be at least 1".to_owned());
        }
        if self.quarantine_s > MAX_QUARANTINE_S {
            return Some(format!("quarantine_s must be at most {MAX_QUARANTINE_S}"));
        }
        if self.import_ms >= self.call_ms {
            let (import, call) = (self.import_ms, self.call_ms);
            return Some(format!(
                "import_ms is {import}, it must be below call_ms, which is {call}"
            ));
        }
        if self.answer_time() > MAX_ANSWER_TIME {
            let (asked, most) = (self.answer_time().as_millis(), MAX_ANSWER_TIME.as_millis());
            return Some(format!(
                "call_ms and queue_ms together count twice, {asked} ms, which is more than {most} ms"
            ));
        }
        if self.handles < MIN_HANDLES {
            return Some(format!("handles must be at least {MIN_HANDLES}"));
        }
        if self.memory_mib > host.max_memory_mib {
            let (asked, most) = (self.memory_mib, host.max_memory_mib);
            return Some(format!("memory_mib is {asked}, this node's max_memory_mib is {most}"));
        }
        if self.instances >= host.max_instances {
            let (asked, most) = (self.instances, host.max_instances);
            return Some(format!(
                "instances is {asked}, this node's max_instances is {most}, of which one is kept free"
            ));
        }
        None
    }
}

/// What an operator lets a component have. A component gets what it asks for *and* is granted;
/// nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Directories of this machine.
    pub directories: Vec<DirectoryGrant>,
    /// Hosts to which HTTP requests may go: `name` (any port) or `name:port`.
    pub http: Vec<String>,
    /// What the component is told (`postroom:host/settings`): addresses, names, modes.
    pub settings: BTreeMap<String, String>,
}

/// A directory that a component may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryGrant {
    /// The name under which the component's manifest asks for it; it finds it as `/name`.
    pub name: String,
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Whether the component may write there.
    #[serde(default)]
    pub write: bool,
}

/// Octets of so many MiB.
pub(super) fn mib(count: u32) -> usize {
    usize::try_from(u64::from(count) << 20).unwrap_or(usize::MAX)
}
