//! Versions of the store component follow each other under load, good ones and broken ones: the short form of
//! `cargo xtask soak --faults versions`. No client is refused anything or loses its connection, what was acknowledged
//! is there, a broken version goes with a reason, and nodes do not keep what a swap leaves behind.

use std::time::Duration;

use postroom_system::soak::fault::Fault;
use postroom_system::soak::{self, Options};

/// Longest that all of it may take, where a machine is starved.
const LONGEST: Duration = Duration::from_secs(300);

/// From one request of a client to its next: without, two cores do little else, and staging takes long.
const PACE: Duration = Duration::from_millis(40);

#[test]
fn p5_versions_follow_each_other_under_load_and_no_client_notices() {
    let broken = [Fault::SwapReads, Fault::SwapLeak, Fault::SwapWrong];
    let report = soak::small(|small| Options {
        time: LONGEST,
        pace: PACE,
        rounds: Some(1),
        faults: [&[Fault::Swap][..], &broken].concat(),
        ..small
    });
    let told = &report.trials.told;
    let outcome = |fault| told.iter().find(|trial| trial.fault == fault).expect("it was deployed");
    assert_eq!(outcome(Fault::Swap).outcome, "permanent");
    for fault in broken {
        let trial = outcome(fault);
        assert!(["refused", "rolled-back"].contains(&trial.outcome.as_str()), "{trial:?}");
    }
}
