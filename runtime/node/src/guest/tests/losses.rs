//! Instances are lost: by traps, deadlines, callers that go.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::gate::Gate;
use super::*;

/// After which an event that a test waits for is not going to come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn is_broken<T: std::fmt::Debug>(result: &Result<T, StoreError>, part: &str) {
    assert!(matches!(result, Err(StoreError::Broken(why)) if why.contains(part)), "{result:?}");
}

#[tokio::test]
async fn a_trap_loses_no_read_but_its_own() {
    let gate = Gate::closed();
    let bench = Bench::over(gate.clone(), guest("unruly"), one_instance()).await;
    // Fewer than may be tried a second time at once.
    let bystanders = join_all((0..6).map(|_| bench.ask(1, &["example.org"])));
    let trap = async {
        gate.reached(6).await;
        let trapped = bench.ask(2, &["trap"]).await;
        // The bystanders come to the gate a second time, each in an instance of its own.
        gate.reached(12).await;
        gate.open();
        trapped
    };
    let (answers, trapped) = tokio::join!(bystanders, trap);
    is_broken(&trapped, "unreachable");
    assert!(answers.iter().all(|answer| *answer == Ok(vec![None])), "{answers:?}");
    assert_eq!(bench.ask(2, &["example.org"]).await, Ok(vec![None]));
}

#[tokio::test]
async fn a_trap_costs_only_its_own_instance() {
    let bench = Bench::new(guest("unruly"), Limits { instances: 2, ..Limits::default() }).await;
    // One account of each instance: they differ in the calls that their instances have had.
    let calls = async |account| {
        let rows = bench.ask(account, &["calls"]).await.unwrap();
        rows[0].clone().unwrap().alias_of.unwrap().parse::<u32>().unwrap()
    };
    let first = calls(1).await;
    let mut other = 2;
    while calls(other).await > first + (other as u32 - 1) - 1 {
        other += 1;
    }
    let before = calls(other).await;
    is_broken(&bench.ask(1, &["trap"]).await, "unreachable");
    assert_eq!(calls(other).await, before + 1);
    assert_eq!(calls(1).await, 1);
}

#[tokio::test]
async fn a_write_that_traps_is_given_back_as_broken_and_writes_nothing_later() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    let txn = bench.txn(1);
    let trapped = bench.add(1, &txn, &["kept", "trap"]).await;
    is_broken(&trapped, "unreachable");
    // What the guest had buffered before is its caller's to throw away.
    txn.take();
    bench.add(1, &txn, &["after"]).await.unwrap();
    assert_eq!(txn.take().len(), 1);
}

#[tokio::test]
async fn a_write_beside_a_trap_is_given_back_as_unavailable() {
    let gate = Gate::closed();
    let bench = Bench::over(gate.clone(), guest("unruly"), one_instance()).await;
    let txn = bench.txn(1);
    let write = bench.add(1, &txn, &["wait"]);
    let trap = async {
        gate.reached(1).await;
        bench.ask(2, &["trap"]).await
    };
    let (written, trapped) = tokio::join!(write, trap);
    is_broken(&trapped, "unreachable");
    assert!(matches!(&written, Err(StoreError::Unavailable(_))), "{written:?}");
}

#[tokio::test]
async fn whatever_ends_a_guest_is_an_error_of_its_call_and_the_next_call_is_served() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    for (how, why) in [("trap", "unreachable"), ("exit", "exit"), ("overflow", "out of bounds")] {
        is_broken(&bench.ask(1, &[how]).await, why);
        assert_eq!(bench.ask(1, &["example.org"]).await, Ok(vec![None]), "after {how}");
    }
}

#[tokio::test]
async fn a_call_that_spins_or_never_answers_ends_at_its_deadline() {
    let limits = Limits { call_ms: 200, import_ms: 50, ..one_instance() };
    let gate = Gate::closed();
    let bench = Bench::over(gate.clone(), guest("unruly"), limits).await;
    for how in ["spin", "stubborn"] {
        is_broken(&bench.ask(1, &[how]).await, "no answer within 200 ms");
    }
    let written = bench.add(1, &bench.txn(1), &["stubborn"]).await;
    is_broken(&written, "no answer within 200 ms");
    gate.open();
    assert_eq!(bench.ask(1, &["example.org"]).await, Ok(vec![None]));
}

#[tokio::test]
async fn a_guest_that_spins_does_not_stop_the_other_tasks_of_its_thread() {
    let limits = Limits { call_ms: 1_000, import_ms: 500, ..Limits::default() };
    let bench = Bench::new(guest("unruly"), Limits { instances: 2, ..limits }).await;
    let spin = bench.ask(1, &["spin"]);
    tokio::pin!(spin);
    let mut others = 0;
    loop {
        tokio::select! {
            biased;
            result = &mut spin => {
                is_broken(&result, "no answer");
                break;
            }
            () = tokio::task::yield_now() => others += 1,
        }
    }
    // Without yielding each epoch there would be two turns: one before and one after.
    assert!(others > 10, "other tasks had {others} turns");
}

#[tokio::test]
async fn a_call_whose_caller_has_gone_ends_at_its_deadline_too() {
    let limits = Limits { call_ms: 100, import_ms: 50, ..one_instance() };
    let gate = Gate::closed();
    let bench = Bench::over(gate.clone(), guest("unruly"), limits).await;
    {
        let caller = bench.ask(1, &["stubborn"]);
        let reached = gate.reached(1);
        tokio::pin!(caller, reached);
        let _ = futures::future::select(caller, reached).await;
    }
    assert_eq!(bench.component.load().calls, 1);
    while bench.component.load().calls > 0 {
        tokio::task::yield_now().await;
    }
    gate.open();
    assert_eq!(bench.ask(1, &["example.org"]).await, Ok(vec![None]));
}

#[tokio::test]
async fn a_second_attempt_that_nobody_waits_for_any_more_is_let_go() {
    let gate = Gate::closed();
    let host = Host::new(HostConfig { max_instances: 4, ..HostConfig::default() }).unwrap();
    let limits = Limits { drain_ms: 50, ..one_instance() };
    let component = host.load(guest("unruly"), &Grants::default(), limits).await.unwrap();
    let bench = Bench { engine: gate.clone(), component };
    {
        let caller = bench.ask(1, &["wait"]);
        let second = async {
            gate.reached(1).await;
            is_broken(&bench.ask(2, &["trap"]).await, "unreachable");
            gate.reached(2).await;
        };
        tokio::pin!(caller, second);
        let _ = futures::future::select(caller, second).await;
    }
    // All but the one of the instance that serves accounts.
    let room = tokio::time::timeout(PATIENCE, host.take_room(3)).await;
    assert!(room.is_ok(), "an instance that serves nobody keeps its room");
}

#[tokio::test]
async fn calls_wait_for_handles_and_no_instance_is_lost_over_them() {
    let gate = Gate::closed();
    let limits = Limits { handles: 20, ..one_instance() };
    let bench = Bench::over(gate.clone(), guest("unruly"), limits).await;
    let calls = join_all((0..50).map(|_| bench.ask(1, &["example.org"])));
    let release = async {
        gate.reached(10).await;
        // Two each: a view, and one more.
        assert_eq!(bench.component.load().calls, 10);
        gate.open();
    };
    let (answers, ()) = tokio::join!(calls, release);
    assert!(answers.iter().all(|answer| *answer == Ok(vec![None])), "{answers:?}");
}

#[tokio::test]
async fn a_full_queue_is_busy_at_once_and_a_long_wait_is_busy_in_the_end() {
    let gate = Gate::closed();
    let limits = Limits { calls: 1, queue: 2, queue_ms: 100, ..one_instance() };
    let bench = Bench::over(gate.clone(), guest("unruly"), limits).await;
    let held = bench.ask(1, &["example.org"]);
    let rest = async {
        gate.reached(1).await;
        let answers = join_all((0..5).map(|_| bench.ask(1, &["example.org"]))).await;
        let busy = |answer: &&Result<_, _>| matches!(answer, Err(StoreError::Busy(_)));
        assert_eq!(answers.iter().filter(busy).count(), 5, "{answers:?}");
        gate.open();
    };
    let (answer, ()) = tokio::join!(held, rest);
    assert_eq!(answer, Ok(vec![None]));
}

#[tokio::test]
async fn storage_that_does_not_answer_is_unavailable_to_the_guest() {
    let gate = Gate::closed();
    let limits = Limits { import_ms: 50, ..one_instance() };
    let bench = Bench::over(gate, guest("unruly"), limits).await;
    let answer = bench.ask(1, &["example.org"]).await;
    let told = matches!(&answer, Err(StoreError::Unavailable(why)) if why.contains("50 ms"));
    assert!(told, "{answer:?}");
}

#[tokio::test]
async fn an_instance_is_replaced_after_its_calls_and_none_is_lost_over_it() {
    let limits = Limits { retire_calls: 10, ..one_instance() };
    let bench = Bench::new(guest("unruly"), limits).await;
    is_replaced(&bench).await;
}

#[tokio::test]
async fn an_instance_is_replaced_also_where_there_is_no_room_for_two() {
    let host = Host::new(HostConfig { max_instances: 2, ..HostConfig::default() }).unwrap();
    let limits = Limits { retire_calls: 10, ..one_instance() };
    let component = host.load(guest("unruly"), &Grants::default(), limits).await.unwrap();
    let bench = Bench { engine: Arc::new(MemoryEngine::new()), component };
    // As a second attempt does.
    let _taken = host.take_room(1).await;
    is_replaced(&bench).await;
}

/// Calls until an instance answers that has had fewer calls than one before.
pub(super) async fn is_replaced(bench: &Bench) {
    let (mut highest, began) = (0, Instant::now());
    while began.elapsed() < PATIENCE {
        let rows = bench.ask(1, &["calls"]).await.unwrap();
        let calls = rows[0].clone().unwrap().alias_of.unwrap().parse::<u32>().unwrap();
        if calls < highest {
            return;
        }
        highest = calls;
        tokio::task::yield_now().await;
    }
    panic!("one instance has served {highest} calls");
}

#[tokio::test]
async fn closing_waits_for_running_calls_and_then_refuses() {
    let gate = Gate::closed();
    let limits = Limits { queue_ms: 100, ..one_instance() };
    let bench = Bench::over(gate.clone(), guest("unruly"), limits).await;
    let held = bench.ask(1, &["example.org"]);
    let close = async {
        gate.reached(1).await;
        let closing = bench.component.close();
        tokio::pin!(closing);
        assert!(futures::poll!(&mut closing).is_pending());
        gate.open();
        closing.await;
    };
    let (answer, ()) = tokio::join!(held, close);
    assert_eq!(answer, Ok(vec![None]));
    let refused = bench.ask(1, &["example.org"]).await;
    assert!(matches!(refused, Err(StoreError::Busy(_))), "{refused:?}");
    assert_eq!(bench.component.load(), Load { instances: 0, calls: 0 });
}

/// Healthy and fatal calls at random, over threads: no healthy read is lost, every write is done or
/// given back as repeatable, and in the end everything is as at first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthy_calls_survive_a_storm_of_fatal_ones() {
    let seed = std::env::var("POSTROOM_SEED").map_or(0x5eed, |text| text.parse().unwrap());
    println!("POSTROOM_SEED={seed}");
    let limits = Limits { call_ms: 500, import_ms: 400, queue_ms: 30_000, ..Limits::default() };
    let bench = Bench::new(guest("unruly"), limits).await;
    let calls = (0..600_u64).map(|number| {
        let dice = blake3::hash(&(seed ^ number << 20).to_le_bytes()).as_bytes()[0];
        let (bench, account) = (&bench, u128::from(number % 40) + 1);
        async move {
            let name = number.to_string();
            let name = name.as_str();
            match dice {
                // Each about something else: what comes again is refused.
                0..4 => is_broken(&bench.ask(account, &["trap", name]).await, "unreachable"),
                4..6 => is_broken(&bench.ask(account, &["exit", name]).await, "exit"),
                6..7 => is_broken(&bench.ask(account, &["spin", name]).await, "no answer"),
                7..130 => match bench.ask(account, &["example.org"]).await {
                    Ok(rows) => assert_eq!(rows, [None]),
                    // Twice behind a spinning call, or behind a crowd of second attempts.
                    Err(error) => assert!(error.is_temporary(), "{error:?}"),
                },
                130.. => {
                    let txn = bench.txn(account);
                    match bench.add(account, &txn, &["example.org"]).await {
                        Ok(()) => assert_eq!(txn.take().len(), 1),
                        Err(error) => assert!(error.is_temporary(), "{error:?}"),
                    }
                }
            }
        }
    });
    join_all(calls).await;
    for account in 1..40 {
        assert_eq!(bench.ask(account, &["example.org"]).await, Ok(vec![None]));
    }
    // An answer is there before its call has left the instance, which another thread drives.
    let began = Instant::now();
    while bench.component.load().calls > 0 && began.elapsed() < PATIENCE {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.component.load(), Load { instances: 4, calls: 0 });
    bench.component.close().await;
}
