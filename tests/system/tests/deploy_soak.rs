//! Versions of the store component follow each other under load, good ones and broken ones: the short form of
//! `cargo xtask soak --faults versions`. No client is refused anything or loses its connection, what was acknowledged
//! is there, a broken version goes with a reason, and nodes do not keep what a swap leaves behind.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use postroom_system::scratch;
use postroom_system::soak::fault::Fault;
use postroom_system::soak::{self, Options};

/// Longest that all of it may take, where a machine is starved.
const LONGEST: Duration = Duration::from_secs(300);

/// From one request of a client to its next: without, two cores do little else, and staging takes long.
const PACE: Duration = Duration::from_millis(40);

#[test]
fn p5_versions_follow_each_other_under_load_and_no_client_notices() {
    let folder = scratch();
    let broken = [Fault::SwapReads, Fault::SwapLeak, Fault::SwapWrong];
    let options = Options {
        seed: 1,
        time: LONGEST,
        nodes: 3,
        accounts: 3,
        writers: 2,
        idlers: 1,
        pace: PACE,
        swaps: None,
        rounds: Some(1),
        faults: [&[Fault::Swap][..], &broken].concat(),
        log: "info".to_owned(),
        folder: folder.path().to_owned(),
    };
    let never = AtomicBool::new(false);
    let report = soak::run(&options, &never, &|_| {}).expect("the cluster can be run and read");
    println!("{}", report.text());
    if !report.is_sound() {
        println!("logs and events stay in {}", folder.keep().display());
    }
    assert!(report.is_sound(), "{:#?}", report.wrong);
    let told = &report.trials.told;
    let outcome = |fault| told.iter().find(|trial| trial.fault == fault).expect("it was deployed");
    assert_eq!(outcome(Fault::Swap).outcome, "permanent");
    for fault in broken {
        let trial = outcome(fault);
        assert!(["refused", "rolled-back"].contains(&trial.outcome.as_str()), "{trial:?}");
    }
}
