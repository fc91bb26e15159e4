//! A store component that sins, under the whole message store: what its answers are worth to those
//! who trust in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use postroom_core::calls::{Call, Want};
use postroom_core::error::StoreError;
use postroom_core::types::{AccountId, UidSet};

use super::super::{Config, DirectoryMode, MessageStore};
use super::{Client, secret, uid};
use crate::guest::tests::guest;
use crate::guest::{Grants, Host, HostConfig, Limits, Stores, default_store};
use crate::storage::MemoryEngine;

/// Alice's and bob's only mail: of one length, so that only the octets tell.
const MAIL: [(&str, &str); 2] = [("alice", "for alice"), ("bob", "for  bob.")];

/// A message store over one instance of a component: the default store, or `faulty`, which writes
/// the same rows.
async fn over(engine: &Arc<MemoryEngine>, generation: u64, sin: Option<[&str; 3]>) -> MessageStore {
    let host = Host::new(HostConfig::default()).unwrap();
    let settings = sin.map(|[sin, verb, account]| {
        BTreeMap::from([("sin", sin), ("verb", verb), ("account", account)])
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    });
    let source = if settings.is_some() { guest("faulty") } else { default_store() };
    let grants = Grants { settings: settings.unwrap_or_default(), ..Grants::default() };
    let limits = Limits { instances: 1, ..Limits::default() };
    let component = host.load(source, &grants, limits).await.unwrap();
    let directory = DirectoryMode::Dev { password: secret("pw") };
    let config = Config { node: "test".into(), generation, directory };
    MessageStore::new(config, Stores::all(component), engine.clone())
}

async fn client<'a>(store: &'a MessageStore, user: &str) -> Client<'a> {
    Client { store, session: store.session_of(user).await.unwrap() }
}

/// The mail of both in a memory engine, and bob's account.
async fn delivered() -> (Arc<MemoryEngine>, AccountId) {
    let engine = Arc::new(MemoryEngine::new());
    let store = over(&engine, 1, None).await;
    for (user, text) in MAIL {
        client(&store, user).await.append("INBOX", text).await;
    }
    let bob = store.principal("bob").await.unwrap().account;
    store.close().await;
    (engine, bob)
}

#[tokio::test]
async fn another_accounts_body_is_left_out_and_everybody_else_gets_their_own() {
    let (engine, bob) = delivered().await;
    let sin = ["other", "message.fetch", &bob.to_string()];
    let store = over(&engine, 2, Some(sin)).await;
    let (alice, bob) = (client(&store, "alice").await, client(&store, "bob").await);
    alice.select("INBOX").await;
    bob.select("INBOX").await;
    for _ in 0..2 {
        assert_eq!(alice.body(uid(1)).await.as_deref(), Some(MAIL[0].1.as_bytes()));
        // The store has alice's at hand for bob.
        assert_eq!(bob.body(uid(1)).await, None);
    }
}

#[tokio::test]
async fn a_fetch_that_kills_is_refused_and_the_account_goes_on() {
    let (engine, bob) = delivered().await;
    let sin = ["trap", "message.fetch", &bob.to_string()];
    let store = over(&engine, 2, Some(sin)).await;
    let (alice, bob) = (client(&store, "alice").await, client(&store, "bob").await);
    alice.select("INBOX").await;
    bob.select("INBOX").await;
    for why in ["unreachable", "is refused for", "is refused for"] {
        let want = Want { body: true, ..Want::default() };
        let fetched = bob.call(Call::Fetch { uids: UidSet::range(uid(1), uid(1)), want }).await;
        let broken = matches!(&fetched, Err(StoreError::Broken(text)) if text.contains(why));
        assert!(broken, "{fetched:?}");
        assert_eq!(alice.body(uid(1)).await.as_deref(), Some(MAIL[0].1.as_bytes()));
    }
    assert_eq!(bob.append("INBOX", "another").await, uid(2));
    assert_eq!(bob.select("INBOX").await.status.messages, 2);
}
