//! Every limit, passed: each is enforced, or what asks for it is refused. A limit that is not in these
//! lists fails the test that goes through them.

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::gate::Gate;
use super::losses::{PATIENCE, is_broken, is_replaced};
use super::quarantine::calls_had;
use super::sandbox::Lines;
use super::*;

/// Runs a check for each key and holds their names against those of a type.
macro_rules! every_key_of {
    ($value:expr => $($key:ident),* $(,)?) => {{
        let mut checked = Vec::new();
        $(
            println!("{}", stringify!($key));
            $key().await;
            checked.push(stringify!($key).to_owned());
        )*
        checked.sort();
        let serde_json::Value::Object(keys) = serde_json::to_value($value).unwrap() else {
            panic!("no object");
        };
        let mut keys: Vec<_> = keys.into_iter().map(|(key, _)| key).collect();
        keys.sort();
        assert_eq!(checked, keys, "left: keys with a check, right: all keys");
    }};
}

#[tokio::test]
async fn every_limit_of_a_component_is_enforced() {
    every_key_of!(Limits::default() =>
        instances, calls, queue, queue_ms, call_ms, cpu_ms, import_ms, memory_mib, transfer_mib,
        handles, log_lines, retire_calls, retire_s, drain_ms, quarantine_s,
    );
}

#[tokio::test]
async fn every_limit_of_a_node_is_enforced() {
    every_key_of!(HostConfig::default() =>
        max_instances, max_memory_mib, stack_kib, max_component_mib, cache, cache_mib,
    );
}

/// Why a load with these limits is refused.
async fn refused(limits: Limits) -> String {
    let host = Host::new(HostConfig::default()).unwrap();
    match host.load(default_store(), &Grants::default(), limits).await.err() {
        Some(LoadError::Limits(why)) => why,
        other => panic!("{other:?}"),
    }
}

async fn unruly(limits: Limits) -> Bench {
    Bench::new(guest("unruly"), limits).await
}

async fn behind(gate: &Arc<Gate>, limits: Limits) -> Bench {
    Bench::over(gate.clone(), guest("unruly"), limits).await
}

fn is_busy<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Busy(_)))
}

async fn instances() {
    let bench = unruly(Limits { instances: 3, ..Limits::default() }).await;
    assert_eq!(bench.component.load().instances, 3);
    assert!(refused(Limits { instances: 0, ..Limits::default() }).await.contains("instances"));
}

async fn calls() {
    let gate = Gate::closed();
    let bench = behind(&gate, Limits { calls: 2, ..one_instance() }).await;
    let asked = futures::future::join_all((0..5).map(|_| bench.ask(1, &["a"])));
    let release = async {
        gate.reached(2).await;
        assert_eq!(bench.component.load().calls, 2);
        gate.open();
    };
    let (answers, ()) = tokio::join!(asked, release);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

async fn queue() {
    let gate = Gate::closed();
    let limits = Limits { calls: 1, queue: 2, queue_ms: 20_000, call_ms: 15_000, ..one_instance() };
    let bench = behind(&gate, Limits { import_ms: 10_000, ..limits }).await;
    let held = bench.ask(1, &["a"]);
    let rest = async {
        gate.reached(1).await;
        let mut asked: FuturesUnordered<_> = (0..5).map(|_| bench.ask(1, &["a"])).collect();
        for _ in 0..3 {
            assert!(is_busy(&asked.next().await.unwrap()));
        }
        gate.open();
        asked.collect::<Vec<_>>().await
    };
    let (held, waited) = tokio::join!(held, rest);
    assert!(held.is_ok() && waited.len() == 2 && waited.iter().all(Result::is_ok), "{waited:?}");
}

async fn queue_ms() {
    let gate = Gate::closed();
    let bench = behind(&gate, Limits { calls: 1, queue_ms: 50, ..one_instance() }).await;
    let held = bench.ask(1, &["a"]);
    let rest = async {
        gate.reached(1).await;
        assert!(is_busy(&bench.ask(1, &["a"]).await));
        gate.open();
    };
    assert!(tokio::join!(held, rest).0.is_ok());
    assert!(refused(Limits { queue_ms: 8_000, ..Limits::default() }).await.contains("queue_ms"));
}

async fn call_ms() {
    let limits = Limits { call_ms: 200, import_ms: 50, ..one_instance() };
    let bench = behind(&Gate::closed(), limits).await;
    is_broken(&bench.ask(1, &["stubborn"]).await, "no answer within 200 ms");
    for call_ms in [0, 40_000] {
        let why = refused(Limits { call_ms, ..Limits::default() }).await;
        assert!(why.contains("call_ms"), "{why}");
    }
}

async fn cpu_ms() {
    let bench = unruly(Limits { cpu_ms: 100, ..one_instance() }).await;
    is_broken(&bench.ask(1, &["spin"]).await, "more than 100 ms of CPU time");
    assert!(refused(Limits { cpu_ms: 0, ..Limits::default() }).await.contains("cpu_ms"));
}

async fn import_ms() {
    let bench = behind(&Gate::closed(), Limits { import_ms: 50, ..one_instance() }).await;
    let told = bench.ask(1, &["a"]).await;
    assert!(
        matches!(&told, Err(StoreError::Unavailable(why)) if why.contains("50 ms")),
        "{told:?}"
    );
    for import_ms in [0, 30_000] {
        let why = refused(Limits { import_ms, ..Limits::default() }).await;
        assert!(why.contains("import_ms"), "{why}");
    }
}

async fn memory_mib() {
    let bench = unruly(Limits { memory_mib: 32, ..one_instance() }).await;
    let before = futures::future::join_all((0..9).map(|_| bench.ask(1, &["calls"]))).await.len();
    let Err(StoreError::Limit(held)) = bench.ask(1, &["memory"]).await else { panic!() };
    let held: u32 = held.trim_end_matches(" MiB").parse().unwrap();
    assert!((20..32).contains(&held), "{held} MiB");
    // It holds on to nothing that it has, but its memory does not shrink: another one serves.
    let replaced = async {
        while calls_had(&bench).await >= before as u32 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, replaced).await.expect("another one serves");
    assert!(refused(Limits { memory_mib: 0, ..Limits::default() }).await.contains("memory_mib"));
}

async fn transfer_mib() {
    // The guest answers 100 MiB.
    let bench = unruly(Limits { transfer_mib: 72, ..one_instance() }).await;
    is_broken(&bench.ask(1, &["huge"]).await, "exhausted");
    let bench = unruly(Limits { transfer_mib: 128, memory_mib: 512, ..one_instance() }).await;
    is_broken(&bench.ask(1, &["huge"]).await, "name");
    let why = refused(Limits { transfer_mib: 0, ..Limits::default() }).await;
    assert!(why.contains("transfer_mib"), "{why}");
}

async fn handles() {
    let bench = unruly(Limits { handles: 100, ..one_instance() }).await;
    let domains: &dyn Records<DomainRow, String> = &*bench.component;
    // The guest asks for more and more.
    let dropped = domains.drop_all(call(1), &bench.txn(1)).await;
    assert!(matches!(dropped, Err(StoreError::Broken(_))), "{dropped:?}");
    assert!(refused(Limits { handles: 1, ..Limits::default() }).await.contains("handles"));
}

async fn log_lines() {
    for (log_lines, printed) in [(0, 0), (5, 5)] {
        let lines = Lines::default();
        let _log = lines.collect();
        let bench = unruly(Limits { log_lines, ..one_instance() }).await;
        bench.ask(1, &["print"]).await.unwrap();
        let text = lines.text();
        let found = text.lines().filter(|line| line.contains("store component: l")).count();
        // Ten thousand lines take less than a few seconds.
        assert!((printed..=6 * printed).contains(&found), "{found} lines of {log_lines}");
    }
}

async fn retire_calls() {
    is_replaced(&unruly(Limits { retire_calls: 10, ..one_instance() }).await).await;
}

async fn retire_s() {
    is_replaced(&unruly(Limits { retire_s: 1, ..one_instance() }).await).await;
}

async fn drain_ms() {
    let gate = Gate::closed();
    let limits = Limits { retire_calls: 1, drain_ms: 50, ..one_instance() };
    let bench = behind(&gate, limits).await;
    let release = async {
        // Its instance retires and does not wait for it: it comes again in another one.
        gate.reached(2).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(bench.ask(1, &["a"]), release);
    assert_eq!(answer, Ok(vec![None]));
}

async fn quarantine_s() {
    let bench = unruly(Limits { quarantine_s: 77, ..one_instance() }).await;
    is_broken(&bench.ask(1, &["trap"]).await, "domains select: ");
    is_broken(&bench.ask(1, &["trap"]).await, "is refused for 7");
    let why = refused(Limits { quarantine_s: 100_000, ..Limits::default() }).await;
    assert!(why.contains("quarantine_s"), "{why}");
}

async fn max_instances() {
    let host = Host::new(HostConfig { max_instances: 3, ..HostConfig::default() }).unwrap();
    let two = || Limits { instances: 2, ..Limits::default() };
    let first = host.load(default_store(), &Grants::default(), two()).await;
    let second = host.load(default_store(), &Grants::default(), two()).await.err();
    assert!(matches!(&second, Some(LoadError::Start(why)) if why.contains("max_instances")));
    drop(first);
}

async fn max_memory_mib() {
    let why = refused(Limits { memory_mib: 2_000, ..Limits::default() }).await;
    assert!(why.contains("max_memory_mib"), "{why}");
}

async fn stack_kib() {
    let deep = async |stack_kib| {
        let host = Host::new(HostConfig { stack_kib, ..HostConfig::default() }).unwrap();
        let component = host.load(guest("unruly"), &Grants::default(), one_instance()).await;
        let engine = Arc::new(MemoryEngine::new());
        let bench = Bench { engine, component: component.unwrap() };
        bench.ask(1, &["deep", "4000"]).await
    };
    assert_eq!(deep(512).await, Ok(vec![None, None]));
    is_broken(&deep(64).await, "call stack exhausted");
    for stack_kib in [0, 63, 20_000] {
        let refused = Host::new(HostConfig { stack_kib, ..HostConfig::default() }).err();
        assert!(matches!(&refused, Some(LoadError::Engine(why)) if why.contains("stack_kib")));
    }
}

async fn max_component_mib() {
    let host = Host::new(HostConfig { max_component_mib: 0, ..HostConfig::default() }).unwrap();
    let refused = host.load(default_store(), &Grants::default(), one_instance()).await.err();
    assert!(matches!(refused, Some(LoadError::TooLarge { most: 0, .. })), "{refused:?}");
}

/// Files of compiled code after two components were loaded.
async fn kept(cache: Option<PathBuf>, cache_mib: u32) -> usize {
    let config = HostConfig { cache: cache.clone(), cache_mib, ..HostConfig::default() };
    let host = Host::new(config).unwrap();
    for source in [default_store(), guest("onebyone")] {
        host.load(source, &Grants::default(), one_instance()).await.unwrap();
    }
    let Some(folder) = cache else { return 0 };
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "code")).count()
}

async fn cache() {
    let folder = tempfile::tempdir().unwrap();
    kept(None, 1024).await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(kept(Some(folder.path().join("code")), 1024).await, 2);
}

async fn cache_mib() {
    // The one just written stays, whatever its size.
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(kept(Some(folder.path().join("code")), 0).await, 1);
}
