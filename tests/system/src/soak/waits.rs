//! How long clients waited, and what else they met, by what was being done to the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fault::Fault;

/// Buckets of a histogram: each 5 % wider than the one before, from 10 µs to over 100 s.
const BUCKETS: usize = 340;
/// Upper end of the first one, in microseconds.
const FIRST_US: f64 = 10.0;
const WIDER: f64 = 1.05;

/// Times, to 5 %; the longest exactly.
#[derive(Clone)]
pub struct Times {
    buckets: Vec<u64>,
    /// How many.
    pub count: u64,
    /// The longest.
    pub longest: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, longest: Duration::ZERO }
    }
}

impl Times {
    /// One more.
    pub fn add(&mut self, time: Duration) {
        let over = (time.as_micros() as f64 / FIRST_US).max(1.0);
        let bucket = (over.ln() / WIDER.ln()).ceil() as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.count += 1;
        self.longest = self.longest.max(time);
    }

    /// So many of a hundred took at most this.
    pub fn percentile(&self, percent: u64) -> Duration {
        self.permille(percent * 10)
    }

    /// So many of a thousand took at most this.
    pub fn permille(&self, permille: u64) -> Duration {
        let wanted = (self.count * permille).div_ceil(1_000);
        let mut sum = 0;
        let bucket = self.buckets.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        let micros = FIRST_US * WIDER.powi(bucket.unwrap_or(0) as i32);
        Duration::from_micros(micros as u64).min(self.longest)
    }
}

/// What clients met during one kind of fault.
#[derive(Clone, Default)]
pub struct Met {
    /// How often it was done.
    pub times: u32,
    /// Calls of clients of other nodes.
    pub others: Times,
    /// Calls of clients of the node that it was done to.
    pub own: Times,
    /// All calls, by command: there are as many as a mail client has.
    pub commands: BTreeMap<String, Times>,
    /// From when a message was acknowledged until a client that idled was told.
    pub told: Times,
    /// From its end until every client had been served again.
    pub settled: Times,
    /// Answers that said "not now".
    pub refused: u64,
    /// Connections that broke because their node was killed or stopped.
    pub broken_with_node: u64,
    /// Connections that broke although their node lived.
    pub broken_alone: u64,
}

/// All of it.
#[derive(Clone, Default)]
pub struct Waits(pub BTreeMap<Fault, Met>);

impl Waits {
    /// Of one kind.
    pub fn of(&mut self, fault: Fault) -> &mut Met {
        self.0.entry(fault).or_default()
    }
}

/// What a client asked for, without its arguments.
pub fn command(what: &str) -> String {
    let words = match what.starts_with("UID ") {
        true => 2,
        // `a delivery` is no command.
        false if what.starts_with("a ") => usize::MAX,
        false => 1,
    };
    what.split(' ').take(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_known_by_its_name() {
        let all = ["UID STORE 3 +FLAGS (\\Seen)", "NOOP", "STATUS INBOX (UIDNEXT)", "a delivery"];
        assert_eq!(all.map(command), ["UID STORE", "NOOP", "STATUS", "a delivery"]);
    }

    #[test]
    fn percentiles_are_within_their_bucket_and_the_longest_is_exact() {
        let mut times = Times::default();
        (1..=1_000).for_each(|millis| times.add(Duration::from_millis(millis)));
        let of = |percent| times.percentile(percent).as_millis();
        assert!((500..=530).contains(&of(50)), "{}", of(50));
        assert!((990..=1_000).contains(&of(99)), "{}", of(99));
        assert_eq!(times.longest, Duration::from_secs(1));
        assert_eq!(Times::default().percentile(99), Duration::ZERO);
        times.add(Duration::from_secs(10_000));
        assert_eq!(times.percentile(100), times.longest.min(times.percentile(100)));
    }
}
