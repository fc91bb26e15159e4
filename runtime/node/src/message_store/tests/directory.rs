//! Who may log in, and for whom mail is accepted.

use postroom_core::calls::{Call, Reply};
use postroom_core::error::StoreError;

use super::super::NewUser;
use super::{Bench, secret};

#[tokio::test]
async fn users_log_in_with_their_own_password_only() {
    let bench = Bench::strict();
    bench.store.create_domain("example.org", None).await.unwrap();
    bench.store.create_domain("example.net", Some("example.org")).await.unwrap();
    let user = |name: &str, alias: Option<&str>| NewUser {
        name: name.to_owned(),
        password: alias.is_none().then(|| secret("right")),
        alias_of: alias.map(str::to_owned),
        quota_octets: None,
    };
    let alice = bench.store.create_user(user("Alice@example.org", None)).await.unwrap();
    bench
        .store
        .create_user(user("postmaster@example.org", Some("alice@example.org")))
        .await
        .unwrap();
    let session = bench.store.session();
    let log_in = async |name: &str, password: &str| {
        let (user, password) = (name.to_owned(), secret(password));
        bench.store.call(&session, bench.store.transaction(), Call::Login { user, password }).await
    };
    for name in
        ["alice@example.org", "ALICE@Example.Org", "alice@example.net", "postmaster@example.net"]
    {
        match log_in(name, "right").await {
            Ok(Reply::Principal(principal)) => assert_eq!(Some(principal.account), alice.account),
            other => panic!("{name}: {other:?}"),
        }
    }
    for (name, password) in [("alice@example.org", "wrong"), ("bob@example.org", "right"), ("", "")]
    {
        let result = log_in(name, password).await;
        assert!(matches!(result, Err(StoreError::AuthenticationFailed)), "{name}: {result:?}");
    }
    // A name that is given away again comes without the mail of who had it before.
    bench.store.remove_user("alice@example.org").await.unwrap();
    let again = bench.store.create_user(user("alice@example.org", None)).await.unwrap();
    assert_ne!(again.account, alice.account);
    let found = bench.store.principal("postmaster@example.org").await.unwrap();
    assert_eq!(Some(found.account), again.account);
    let nobody = Call::ResolveRecipient { address: "bob@example.org".into() };
    let result = bench.store.call(&session, bench.store.transaction(), nobody).await;
    assert!(matches!(result, Err(StoreError::NotFound(_))));
}
