//! Components as hooks: one that files, one that sins.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use postroom_core::error::StoreError;

use super::super::{Config, DirectoryMode, MessageStore};
use super::faults::count;
use super::{Client, secret, soon};
use crate::guest::native_plain::Plain;
use crate::guest::tests::guest;
use crate::guest::{Grants, Hooks, Host, HostConfig, Limits, StoreComponent};
use crate::storage::MemoryEngine;

const SPAM: &str = "X-Spam-Flag: YES\r\nSubject: spam\r\n\r\nbuy\r\n";
const HAM: &str = "Subject: ham\r\n\r\nhello\r\n";
/// What `faulty` sins at, where it is told to.
const BAIT: &str = "Subject: bait\r\n\r\nbite\r\n";

async fn load(package: &str, settings: &[(&str, &str)], limits: Limits) -> Arc<StoreComponent> {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let settings: BTreeMap<_, _> = settings.iter().map(owned).collect();
    let grants = Grants { settings, ..Grants::default() };
    let host = Host::new(HostConfig::default()).unwrap();
    host.load(guest(package), &grants, limits).await.unwrap()
}

fn store(hooks: Hooks) -> MessageStore {
    let directory = DirectoryMode::Dev { password: secret("pw") };
    let config = Config { node: "test".into(), generation: 1, directory };
    MessageStore::hooked(config, Plain::stores().0, hooks, Arc::new(MemoryEngine::new()))
}

async fn client<'a>(store: &'a MessageStore, user: &str) -> Client<'a> {
    Client { store, session: store.session_of(user).await.unwrap() }
}

#[tokio::test]
async fn spam_is_filed_into_junk_with_a_trace() {
    let store = store(vec![load("refile", &[], Limits::default()).await]);
    let alice = client(&store, "alice").await;
    for text in [SPAM, HAM, SPAM] {
        alice.deliver("alice", text).await.unwrap();
    }
    let junk = format!("X-Postroom-Refile: Junk\r\n{SPAM}");
    assert_eq!(alice.bodies("Junk").await, [junk.clone(), junk]);
    assert_eq!(alice.bodies("INBOX").await, [HAM]);
}

#[tokio::test]
async fn a_hook_does_what_its_settings_say() {
    let settings = [("field", "List-Id"), ("value", "<a.b>"), ("mailbox", "Listen/Größe")];
    let store = store(vec![load("refile", &settings, Limits::default()).await]);
    let alice = client(&store, "alice").await;
    alice.deliver("alice", SPAM).await.unwrap();
    alice.deliver("alice", "list-id: <A.B>\r\n\r\n").await.unwrap();
    let filed = "X-Postroom-Refile: Listen/Gr??e\r\nlist-id: <A.B>\r\n\r\n";
    assert_eq!(alice.bodies("Listen/Größe").await, [filed]);
    assert_eq!(alice.bodies("INBOX").await, [SPAM]);
}

/// Delivers bait to a sinning hook: it is put off, nothing of it is there, and other mail goes on.
async fn put_off(sin: &str, limits: Limits) {
    let settings = [("sin", sin), ("verb", "hook.before"), ("text", "bait")];
    let store = store(vec![load("faulty", &settings, limits).await]);
    let alice = client(&store, "alice").await;
    let put_off = soon(sin, alice.deliver("alice", BAIT)).await;
    let temporary = put_off.as_ref().is_err_and(StoreError::is_temporary);
    assert!(temporary, "{sin}: {put_off:?}");
    alice.deliver("alice", HAM).await.unwrap_or_else(|error| panic!("{sin}: {error}"));
    assert_eq!(alice.bodies("INBOX").await, [HAM], "{sin}");
}

#[tokio::test]
async fn a_hook_that_traps_or_answers_nonsense_puts_the_delivery_off() {
    for sin in ["trap", "exit", "recurse", "devour", "nonsense", "wrong", "other"] {
        put_off(sin, Limits::default()).await;
    }
}

#[tokio::test]
async fn a_hook_that_spins_or_sleeps_puts_the_delivery_off() {
    let spins = Limits { cpu_ms: 200, ..Limits::default() };
    put_off("spin", spins).await;
    let sleeps = Limits { call_ms: 400, import_ms: 100, cpu_ms: 300, ..Limits::default() };
    put_off("sleep", sleeps).await;
}

#[tokio::test]
async fn a_delivery_that_has_cost_two_instances_is_put_off_without_asking() {
    let settings = [("sin", "trap"), ("verb", "hook.before"), ("text", "bait")];
    let hook = load("faulty", &settings, Limits::default()).await;
    let store = store(vec![hook.clone()]);
    let alice = client(&store, "alice").await;
    for why in ["unreachable", "is refused for", "is refused for"] {
        let put_off = alice.deliver("alice", BAIT).await;
        let told = matches!(&put_off, Err(StoreError::Broken(text)) if text.contains(why));
        assert!(told, "{why}: {put_off:?}");
    }
    let shown = hook.quarantined();
    assert_eq!((shown.len(), &*shown[0].operation), (1, "hooks before-delivery"));
    alice.deliver("alice", HAM).await.unwrap();
    assert_eq!(count(&alice, "INBOX").await, 1);
}

#[tokio::test]
async fn a_hook_that_traps_after_the_delivery_is_counted_and_changes_nothing() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let settings = [("sin", "trap"), ("verb", "hook.after")];
    let hook = load("faulty", &settings, Limits { instances: 1, ..Limits::default() }).await;
    let store = store(vec![hook]);
    let alice = client(&store, "alice").await;
    for _ in 0..10 {
        alice.deliver("alice", HAM).await.unwrap();
    }
    assert_eq!(alice.bodies("INBOX").await, [HAM; 10]);
    store.close().await;
    let text = metrics.render();
    for (function, outcome) in [("before", "ok"), ("after", "failed")] {
        let counted = text.lines().any(|line| {
            line.starts_with("postroom_hooks_total")
                && line.contains(&format!("function=\"{function}-delivery\""))
                && line.contains(&format!("outcome=\"{outcome}\""))
                && line.ends_with(" 10")
        });
        assert!(counted, "{function} {outcome}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_what_is_accepted_is_there_once_and_what_is_put_off_is_not() {
    const AT_A_TIME: usize = 64;
    const DELIVERIES: usize = 1_600;
    const USERS: usize = 8;
    let settings = [("sin", "trap"), ("verb", "hook.before"), ("text", "bait")];
    let hooks: Hooks = vec![
        load("refile", &[], Limits::default()).await,
        load("faulty", &settings, Limits::default()).await,
    ];
    let store = store(hooks);
    let mut clients = Vec::new();
    for user in 0..USERS {
        clients.push(client(&store, &format!("u{user}")).await);
    }
    // Every 100th is bait, every 3rd spam.
    let text = |number: usize| {
        let spam = if number.is_multiple_of(3) { "X-Spam-Flag: YES\r\n" } else { "" };
        let subject = if number.is_multiple_of(100) { "bait" } else { "mail" };
        format!("{spam}Subject: {subject} {number:06}\r\n\r\n")
    };
    let deliver = |number: usize| {
        let (client, user, text) =
            (&clients[number % USERS], format!("u{}", number % USERS), text(number));
        async move { (number, client.deliver(&user, &text).await) }
    };
    let deliveries = futures::stream::iter((0..DELIVERIES).map(deliver));
    let outcomes: Vec<_> = deliveries.buffer_unordered(AT_A_TIME).collect().await;
    for (number, outcome) in &outcomes {
        match number.is_multiple_of(100) {
            true => assert!(outcome.as_ref().is_err_and(StoreError::is_temporary), "{outcome:?}"),
            false => assert!(outcome.is_ok(), "{number}: {outcome:?}"),
        }
    }
    for (user, client) in clients.iter().enumerate() {
        for (mailbox, spam) in [("INBOX", false), ("Junk", true)] {
            let trace = if spam { "X-Postroom-Refile: Junk\r\n" } else { "" };
            let meant = (user..DELIVERIES)
                .step_by(USERS)
                .filter(|number| number.is_multiple_of(3) == spam && !number.is_multiple_of(100));
            let mut expected: Vec<_> =
                meant.map(|number| format!("{trace}{}", text(number))).collect();
            let mut there = client.bodies(mailbox).await;
            expected.sort();
            there.sort();
            assert_eq!(there, expected, "{mailbox} of u{user}");
        }
    }
    store.close().await;
}
