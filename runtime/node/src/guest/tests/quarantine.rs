//! Operations that kill instances are refused; nothing else is.

use futures::future::join_all;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::gate::Gate;
use super::losses::is_broken;
use super::sandbox::Lines;
use super::*;

/// Calls that the instance of an account has had: one that was replaced begins anew.
pub(super) async fn calls_had(bench: &Bench) -> u32 {
    let rows = bench.ask(9, &["calls"]).await.unwrap();
    rows[0].clone().unwrap().alias_of.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_read_that_has_killed_twice_is_refused_at_once_and_the_account_goes_on() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    // In the instance of all, then alone.
    is_broken(&bench.ask(1, &["trap"]).await, "unreachable");
    let before = calls_had(&bench).await;
    for _ in 0..3 {
        let refused = bench.ask(1, &["trap"]).await;
        is_broken(&refused, "domains select of account");
        is_broken(&refused, "2 store instances");
        is_broken(&refused, "unreachable");
    }
    assert_eq!(bench.ask(1, &["example.org"]).await, Ok(vec![None]));
    bench.add(1, &bench.txn(1), &["example.org"]).await.unwrap();
    assert_eq!(calls_had(&bench).await, before + 2);
    let shown = bench.component.quarantined();
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].losses, shown[0].refused), (2, 3));
    assert_eq!(shown[0].account, AccountId::from_u128(1).to_string());
}

#[tokio::test]
async fn a_write_that_has_killed_twice_is_refused_whatever_its_transaction() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    // In the instance of all, which is replaced, then alone, beside it.
    for had in [1, 2] {
        is_broken(&bench.add(1, &bench.txn(1), &["trap"]).await, "domains insert: ");
        assert_eq!(calls_had(&bench).await, had);
    }
    let domains: &dyn Records<DomainRow, String> = &*bench.component;
    let again = CallInfo { transaction: TransactionId::from_u128(8), ..call(1) };
    let refused = domains.insert(again, &bench.txn(1), vec![domain("trap")]).await;
    is_broken(&refused, "is refused for");
    bench.add(1, &bench.txn(1), &["trapped-not"]).await.unwrap();
    // Another account's is another operation, though it does no better.
    is_broken(&bench.add(2, &bench.txn(2), &["trap"]).await, "domains insert: ");
}

#[tokio::test]
async fn a_write_that_kills_among_others_is_alone_the_next_time_and_then_refused() {
    let gate = Gate::closed();
    let bench = Bench::over(gate.clone(), guest("unruly"), one_instance()).await;
    let (beside, culprit) = (bench.txn(1), bench.txn(2));
    let (beside, culprit) = tokio::join!(bench.add(1, &beside, &["wait"]), async {
        gate.reached(1).await;
        bench.add(2, &culprit, &["trap"]).await
    });
    for given_back in [&beside, &culprit] {
        assert!(matches!(given_back, Err(StoreError::Unavailable(_))), "{given_back:?}");
    }
    // The repeats: held at the gate, the one beside would be lost if it were not alone.
    let repeat = bench.txn(1);
    let (beside, culprit) = tokio::join!(bench.add(1, &repeat, &["wait"]), async {
        gate.reached(2).await;
        let culprit = bench.add(2, &bench.txn(2), &["trap"]).await;
        gate.open();
        culprit
    });
    assert_eq!(beside, Ok(()));
    is_broken(&culprit, "domains insert: ");
    is_broken(&bench.add(2, &bench.txn(2), &["trap"]).await, "is refused for");
    assert_eq!(bench.component.quarantined().len(), 1);
}

#[tokio::test]
async fn many_at_once_of_one_fatal_operation_cost_few_instances() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    let answers = join_all((0..100).map(|_| bench.ask(1, &["trap"]))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Broken(_)))));
    let lost = bench.component.quarantined()[0].losses;
    // The one that all were in, and as many as were already alone when the first was lost.
    assert!((2..=9).contains(&lost), "{lost} instances");
}

#[tokio::test]
async fn who_waits_for_the_host_is_not_blamed_for_it() {
    let gate = Gate::closed();
    let limits = Limits { call_ms: 200, import_ms: 50, ..one_instance() };
    let bench = Bench::over(gate.clone(), guest("unruly"), limits).await;
    for _ in 0..3 {
        is_broken(&bench.ask(1, &["stubborn"]).await, "no answer within 200 ms");
    }
    assert_eq!(bench.component.quarantined(), []);
    gate.open();
    assert_eq!(bench.ask(1, &["stubborn"]).await, Ok(vec![None]));
}

#[tokio::test]
async fn a_quarantine_is_told_once_in_the_log_and_shown_in_the_metrics() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let lines = Lines::default();
    let _log = lines.collect();
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    for _ in 0..3 {
        is_broken(&bench.ask(1, &["trap"]).await, "unreachable");
    }
    let text = lines.text();
    let told: Vec<_> =
        text.lines().filter(|line| line.contains("has cost several store instances")).collect();
    assert_eq!(told.len(), 1, "{text}");
    for part in ["WARN", "unruly", "domains select", "unreachable", "losses=2"] {
        assert!(told[0].contains(part), "{}", told[0]);
    }
    let text = metrics.render();
    for line in [
        "postroom_guest_quarantined{component=\"unruly\"} 1",
        "postroom_guest_quarantine_refusals_total{component=\"unruly\"} 2",
        "postroom_guest_instances_lost_total{component=\"unruly\",reason=\"trap\"} 2",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[tokio::test]
async fn without_a_time_it_is_always_tried() {
    let limits = Limits { quarantine_s: 0, ..one_instance() };
    let bench = Bench::new(guest("unruly"), limits).await;
    for _ in 0..3 {
        is_broken(&bench.ask(1, &["trap"]).await, "domains select: ");
    }
    assert_eq!(bench.component.quarantined(), []);
}
