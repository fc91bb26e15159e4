//! The throw-away stores that proved the interface: C, Python, files, HTTP.

mod directory;

use std::ops::Deref;

use postroom_contract::{EngineKind, Wanted, component, run, script};
use postroom_guest::testing::Sample;
use postroom_guest::testing::contract::RecordSubject;
use postroom_guest::{StoreError, User, message_contract};
use postroom_node::conformance::Subject;
use postroom_node::guest::{DirectoryGrant, Grants, Kind};
use tempfile::TempDir;

use directory::Directory;

fn c() -> Subject {
    Wanted::new(script("c", "c"), EngineKind::Memory).of(Kind::Messages)
}

fn python() -> Subject {
    Wanted::new(script("python", "message-rows"), EngineKind::Memory).of(Kind::Messages)
}

/// A subject with what it works on.
struct With<T>(Subject, T);

impl<T> Deref for With<T> {
    type Target = Subject;

    fn deref(&self) -> &Subject {
        &self.0
    }
}

fn maildir() -> With<TempDir> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_owned();
    let grant = DirectoryGrant { name: "mail".into(), path, write: true };
    let grants = Grants { directories: vec![grant], ..Grants::default() };
    let wanted = Wanted::new(component("maildir"), EngineKind::Memory);
    With(Wanted { grants, ..wanted }.of(Kind::Messages), directory)
}

message_contract!(in_c, run, c());
message_contract!(in_python, run, python());
message_contract!(over_files, run, *maildir());

/// The Python store over a directory that holds these users.
fn http(users: Vec<User>) -> With<Directory> {
    let directory = Directory::start(users);
    let grants = Grants {
        http: vec!["127.0.0.1".into()],
        settings: [("url".to_owned(), directory.url())].into(),
        ..Grants::default()
    };
    let wanted = Wanted::new(script("python", "http-users"), EngineKind::Memory);
    With(Wanted { grants, ..wanted }.of(Kind::Users), directory)
}

fn outside(number: u32) -> User {
    let quota_octets = (!number.is_multiple_of(3)).then_some(u64::from(number) << 40);
    User { account: None, quota_octets, extra: Vec::new(), ..User::sample(number) }
}

fn names(users: &[User]) -> Vec<String> {
    users.iter().map(|user| user.name.clone()).collect()
}

#[test]
fn users_come_from_an_http_directory() {
    let users: Vec<User> = (0..25).map(outside).collect();
    let subject = http(users.clone());
    let asked = [&users[3], &outside(99), &users[0], &users[3]].map(|user| user.name.clone());
    let found = run(RecordSubject::<User>::select(&*subject, None, asked.to_vec()));
    let [zero, three] = [0, 3].map(|at: usize| Some(users[at].clone()));
    assert_eq!(found.expect("select"), [three.clone(), None, zero, three]);

    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = run(RecordSubject::<User>::list(&*subject, None, after, 10)).expect("list");
        after = page.rows.last().map(|user| user.name.clone());
        all.extend(page.rows);
        if !page.more {
            break;
        }
    }
    assert_eq!(all, users);
}

#[test]
fn an_http_directory_is_not_written_to() {
    use postroom_guest::testing::contract::Host;
    let subject = http(vec![outside(1)]);
    let txn = subject.begin();
    let rows = vec![outside(2)];
    let refused = [
        run(subject.insert(&txn, rows.clone())),
        run(subject.update(&txn, rows.clone())),
        run(RecordSubject::<User>::delete(&*subject, &txn, names(&rows))),
        run(RecordSubject::<User>::drop(&*subject, &txn)),
    ];
    for outcome in refused {
        assert!(matches!(outcome, Err(StoreError::Unsupported(_))), "{outcome:?}");
    }
}

#[test]
fn a_directory_that_fails_is_a_temporary_error() {
    let subject = http(vec![outside(1)]);
    for (status, body) in [(500, "{}"), (200, "no json"), (200, "[1]"), (200, "{\"name\": 5}")] {
        subject.1.answer(Some((status, body)));
        let found = run(RecordSubject::<User>::select(&*subject, None, vec![outside(1).name]));
        let temporary = matches!(found, Err(StoreError::Unavailable(_) | StoreError::Damaged(_)));
        assert!(temporary, "{status} {body}: {found:?}");
    }
    subject.1.answer(None);
    let found = run(RecordSubject::<User>::select(&*subject, None, vec![outside(1).name]));
    assert_eq!(found.expect("select"), [Some(outside(1))]);
    subject.1.stop();
    let found = run(RecordSubject::<User>::select(&*subject, None, vec![outside(1).name]));
    assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
}
