//! CPU time of calls.

use std::time::Instant;

use super::gate::Gate;
use super::losses::is_broken;
use super::*;

/// Little CPU time, and so much wall time that it is not what ends a call.
fn little_cpu() -> Limits {
    Limits { cpu_ms: 100, ..one_instance() }
}

#[tokio::test]
async fn a_call_that_spins_ends_with_its_cpu_time_and_the_next_call_is_served() {
    let bench = Bench::new(guest("unruly"), little_cpu()).await;
    is_broken(&bench.ask(1, &["spin"]).await, "more than 100 ms of CPU time");
    let written = bench.add(1, &bench.txn(1), &["spin"]).await;
    is_broken(&written, "more than 100 ms of CPU time");
    assert_eq!(bench.ask(1, &["example.org"]).await, Ok(vec![None]));
}

#[tokio::test]
async fn a_call_that_works_a_little_between_many_host_calls_ends_with_its_cpu_time_too() {
    let bench = Bench::new(guest("unruly"), little_cpu()).await;
    is_broken(&bench.ask(1, &["busy"]).await, "more than 100 ms of CPU time");
    assert_eq!(bench.ask(1, &["example.org"]).await, Ok(vec![None]));
}

#[tokio::test]
async fn a_spin_beside_others_loses_no_read_but_its_own() {
    let gate = Gate::closed();
    let bench = Bench::over(gate.clone(), guest("unruly"), little_cpu()).await;
    let beside = futures::future::join_all((0..6).map(|_| bench.ask(1, &["example.org"])));
    let spin = async {
        gate.reached(6).await;
        let spun = bench.ask(2, &["spin"]).await;
        gate.reached(12).await;
        gate.open();
        spun
    };
    let (answers, spun) = tokio::join!(beside, spin);
    is_broken(&spun, "more than 100 ms of CPU time");
    assert!(answers.iter().all(|answer| *answer == Ok(vec![None])), "{answers:?}");
}

#[tokio::test]
async fn many_calls_may_use_together_what_one_may_not() {
    let bench = Bench::new(guest("unruly"), little_cpu()).await;
    let names: Vec<_> = (0..500).map(|number| number.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (began, mut asked) = (Instant::now(), 0);
    while began.elapsed() < 5 * little_cpu().cpu_time() {
        bench.ask(1, &names).await.unwrap();
        asked += 1;
    }
    // One instance has answered all of them.
    let rows = bench.ask(1, &["calls"]).await.unwrap();
    assert_eq!(rows[0].as_ref().unwrap().alias_of, Some((asked + 1).to_string()));
}
