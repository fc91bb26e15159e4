//! What a guest cannot do.

use std::io::Write;
use std::sync::{Mutex, OnceLock};

use tracing::subscriber::NoSubscriber;

use super::*;

/// What the guest says that it has seen.
async fn said(bench: &Bench, what: &str) -> String {
    match bench.ask(1, &[what]).await {
        Err(StoreError::Broken(said)) => said,
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn nothing_of_this_machine_is_seen_without_a_grant() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    assert_eq!(said(&bench, "environment").await, format!("{:?}", [false; 6]));
}

#[tokio::test]
async fn limits_of_storage_are_told_and_harm_nothing() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    assert_eq!(said(&bench, "keys").await, format!("{:?}", [true; 8]));
    let txn = bench.txn(1);
    for (what, part) in [("large", "4194304"), ("flood", "67108864")] {
        let answer = bench.add(1, &txn, &[what]).await;
        let told = matches!(&answer, Err(StoreError::Limit(why)) if why.contains(part));
        assert!(told, "{what}: {answer:?}");
    }
    let answer = bench.add(1, &bench.txn(1), &["backwards"]).await;
    assert!(matches!(answer, Err(StoreError::Invalid(_))), "{answer:?}");
}

#[tokio::test]
async fn memory_ends_at_its_limit() {
    let limits = Limits { memory_mib: 32, ..one_instance() };
    let bench = Bench::new(guest("unruly"), limits).await;
    let Err(StoreError::Limit(held)) = bench.ask(1, &["memory"]).await else { panic!() };
    let held: u32 = held.trim_end_matches(" MiB").parse().unwrap();
    assert!((20..32).contains(&held), "{held} MiB");
}

#[tokio::test]
async fn handles_end_at_their_limit() {
    let limits = Limits { handles: 100, ..one_instance() };
    let bench = Bench::new(guest("unruly"), limits).await;
    let domains: &dyn Records<DomainRow, String> = &*bench.component;
    let dropped = domains.drop_all(call(1), &bench.txn(1)).await;
    assert!(matches!(dropped, Err(StoreError::Broken(_))), "{dropped:?}");
    assert_eq!(bench.ask(1, &["example.org"]).await, Ok(vec![None]));
}

#[tokio::test]
async fn a_handle_kept_after_its_call_reaches_nothing() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    bench.ask(1, &["keep"]).await.unwrap();
    let read = bench.ask(2, &["use-kept"]).await;
    let closed = matches!(&read, Err(StoreError::Denied(why)) if why.contains("over"));
    assert!(closed, "{read:?}");

    let domains: &dyn Records<DomainRow, String> = &*bench.component;
    let txn = bench.txn(1);
    domains.create(call(1), &txn).await.unwrap();
    let wrote = bench.ask(2, &["use-kept-txn"]).await;
    assert!(matches!(&wrote, Err(StoreError::Denied(_))), "{wrote:?}");
    assert_eq!(txn.take(), []);
}

/// Log lines of a test.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Collects what this thread logs, until the guard is dropped.
    pub(super) fn collect(&self) -> tracing::subscriber::DefaultGuard {
        // As long as there is one subscriber only, a line that another test's thread comes to first
        // is off for good in all threads.
        static SECOND: OnceLock<tracing::Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| tracing::Dispatch::new(NoSubscriber::new()));
        let writer = self.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .with_max_level(tracing::Level::INFO)
            .finish();
        tracing::subscriber::set_default(log)
    }

    /// What has been logged.
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_a_guest_prints_is_logged_within_limits() {
    let lines = Lines::default();
    let _log = lines.collect();
    let limits = Limits { log_lines: 5, ..one_instance() };
    let bench = Bench::new(guest("unruly"), limits).await;
    bench.ask(1, &["print"]).await.unwrap();
    let text = lines.text();
    let printed: Vec<_> = text.lines().filter(|line| line.contains("store component: l")).collect();
    assert!(printed[0].contains("line 0") && printed[0].contains("unruly"), "{text}");
    // Ten thousand lines take less than a few seconds.
    assert!((5..=30).contains(&printed.len()), "{} lines", printed.len());
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.lines().all(|line| line.len() < 2_000));
}

#[tokio::test]
async fn what_a_guest_prints_is_in_the_journal_with_its_instance() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    let component = bench.component.clone();
    let store = SwappableStore::new("unruly", component, vec![Kind::Domains], false);
    bench.ask(1, &["print"]).await.unwrap();
    let written = store.journal().after(0);
    let printed: Vec<_> =
        written.entries.iter().filter(|entry| entry.what != What::Event).collect();
    let last = printed.last().expect("it has printed");
    assert_eq!((last.generation, last.instance.is_some()), (Some(1), true));
    assert_eq!(&*last.version, &*bench.component.inspection().label());
    // The last of very many lines are there, and each is short and plain.
    assert!(written.forgotten > 0, "{} lines", printed.len());
    let plain = |text: &str| text.len() <= 1024 && !text.contains(char::is_control);
    assert!(printed.iter().all(|entry| plain(&entry.text)));
}

#[tokio::test]
async fn a_directory_is_there_only_when_asked_for_and_granted() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new(HostConfig::default()).unwrap();
    let grant = |name: &str, path: &Path, write| Grants {
        directories: vec![DirectoryGrant { name: name.to_owned(), path: path.to_owned(), write }],
        ..Grants::default()
    };
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let insert = async |grants: Grants| {
        let component = host.load(guest("maildir"), &grants, one_instance()).await.unwrap();
        let txn = Txn::new(engine.clone(), space(1));
        let body = engine.new_body(space(1), "x".into()).await.unwrap();
        let messages: &dyn Messages = &*component;
        messages.insert(call(1), &txn, vec![message(4, 1, 1)], vec![body]).await
    };
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    assert!(insert(Grants::default()).await.is_err());
    assert!(insert(grant("other", folder.path(), true)).await.is_err());
    assert!(insert(grant("mail", folder.path(), false)).await.is_err());
    assert_eq!(files(), 0);
    insert(grant("mail", folder.path(), true)).await.unwrap();
    assert_eq!(files(), 1);
    let absent = grant("mail", Path::new("/absent"), true);
    let refused = host.load(guest("maildir"), &absent, one_instance()).await.err();
    assert!(matches!(refused, Some(LoadError::Directory { .. })), "{refused:?}");
}
