//! Cases that concern every kind of record; asked of mailboxes where one kind stands for all.

use std::collections::BTreeMap;

use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, MailboxRow, Property, UserRow};
use postroom_core::types::{AccountId, MailboxId, MailboxName, UidValidity};

use crate::fixture::{Fixture, Random, account, directory};

fn domain(name: &str) -> DomainRow {
    DomainRow { name: name.into(), alias_of: None, extra: Vec::new() }
}

fn mailbox(number: u32) -> MailboxRow {
    MailboxRow {
        id: MailboxId::from_u128(u128::from(number) << 60 | 1),
        name: MailboxName::new(&format!("Box/{number}")).unwrap(),
        uid_validity: UidValidity(number.max(1).try_into().unwrap()),
        special_use: (number % 2 == 0).then(|| "\\Sent".to_owned()),
        extra: Vec::new(),
    }
}

/// All records, in pages of `limit`.
async fn all(fixture: &Fixture, limit: u32) -> Vec<MailboxRow> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let view = fixture.view(account(1));
        let page = fixture.stores.mailboxes.list(account(1), &view, after, limit).await.unwrap();
        assert!(page.rows.len() <= limit as usize, "a page of more than its limit");
        assert!(!page.more || !page.rows.is_empty(), "more without a row");
        after = page.rows.last().map(|row| row.id);
        rows.extend(page.rows);
        if !page.more {
            return rows;
        }
    }
}

async fn insert(fixture: &Fixture, rows: Vec<MailboxRow>) -> Result<(), StoreError> {
    fixture
        .commit(account(1), async |call, txn| {
            fixture.stores.mailboxes.insert(call, txn, rows).await
        })
        .await
}

pub async fn domains_are_found_again(fixture: &Fixture) {
    let rows = vec![
        domain("b.example"),
        DomainRow { alias_of: Some("b.example".into()), ..domain("a.example") },
    ];
    let given = rows.clone();
    let domains = &fixture.stores.domains;
    fixture
        .commit(directory(), async |call, txn| domains.insert(call, txn, given).await)
        .await
        .unwrap();
    let view = fixture.view(directory());
    let names = vec!["b.example".to_owned(), "c.example".to_owned(), "a.example".to_owned()];
    let found = domains.select(directory(), &view, names).await.unwrap();
    assert_eq!(found, [Some(rows[0].clone()), None, Some(rows[1].clone())]);
    let page = domains.list(directory(), &view, None, 10).await.unwrap();
    assert_eq!(page.rows, [rows[1].clone(), rows[0].clone()]);
}

pub async fn users_are_found_again(fixture: &Fixture) {
    let row = UserRow {
        name: "anna@example.org".into(),
        account: AccountId::from_u128(7),
        alias_of: None,
        password: Some("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".into()),
        quota_octets: Some(u64::MAX),
        extra: vec![Property { name: "later".into(), value: vec![0, 255] }],
    };
    let users = &fixture.stores.users;
    let given = vec![row.clone()];
    fixture
        .commit(directory(), async |call, txn| users.insert(call, txn, given).await)
        .await
        .unwrap();
    let changed = UserRow { password: None, quota_octets: None, ..row };
    let given = vec![changed.clone()];
    fixture
        .commit(directory(), async |call, txn| users.update(call, txn, given).await)
        .await
        .unwrap();
    let view = fixture.view(directory());
    let found = users.select(directory(), &view, vec!["anna@example.org".into()]).await.unwrap();
    assert_eq!(found, [Some(changed)]);
}

pub async fn mailboxes_are_found_again(fixture: &Fixture) {
    let rows: Vec<_> = (0..5).map(mailbox).collect();
    insert(fixture, rows.iter().rev().cloned().collect()).await.unwrap();
    assert_eq!(all(fixture, 100).await, rows);
}

pub async fn insert_of_an_existing_record_adds_none(fixture: &Fixture) {
    insert(fixture, vec![mailbox(1)]).await.unwrap();
    let error = insert(fixture, vec![mailbox(2), mailbox(1)]).await.unwrap_err();
    assert!(matches!(error, StoreError::AlreadyExists(_)), "{error:?}");
    assert_eq!(all(fixture, 10).await, [mailbox(1)]);
}

pub async fn update_of_a_missing_record_changes_none(fixture: &Fixture) {
    insert(fixture, vec![mailbox(1)]).await.unwrap();
    let renamed = MailboxRow { name: MailboxName::new("New").unwrap(), ..mailbox(1) };
    let rows = vec![renamed.clone(), mailbox(2)];
    let mailboxes = &fixture.stores.mailboxes;
    let update = async |rows| {
        fixture.commit(account(1), async |call, txn| mailboxes.update(call, txn, rows).await).await
    };
    let error = update(rows).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound(_)), "{error:?}");
    assert_eq!(all(fixture, 10).await, [mailbox(1)]);
    update(vec![renamed.clone()]).await.unwrap();
    assert_eq!(all(fixture, 10).await, [renamed]);
}

pub async fn delete_passes_over_what_is_missing(fixture: &Fixture) {
    insert(fixture, vec![mailbox(1), mailbox(2)]).await.unwrap();
    for _ in 0..2 {
        let ids = vec![mailbox(9).id, mailbox(1).id];
        let mailboxes = &fixture.stores.mailboxes;
        let delete = async |call, txn: &_| mailboxes.delete(call, txn, ids).await;
        fixture.commit(account(1), delete).await.unwrap();
        assert_eq!(all(fixture, 10).await, [mailbox(2)]);
    }
}

pub async fn select_keeps_order_and_repeats(fixture: &Fixture) {
    insert(fixture, vec![mailbox(1), mailbox(2)]).await.unwrap();
    let ids = [2, 9, 1, 2].map(|number| mailbox(number).id).to_vec();
    let view = fixture.view(account(1));
    let found = fixture.stores.mailboxes.select(account(1), &view, ids).await.unwrap();
    assert_eq!(found, [Some(mailbox(2)), None, Some(mailbox(1)), Some(mailbox(2))]);
}

pub async fn empty_lists_change_nothing(fixture: &Fixture) {
    insert(fixture, vec![mailbox(1)]).await.unwrap();
    insert(fixture, Vec::new()).await.unwrap();
    let mailboxes = &fixture.stores.mailboxes;
    let none = async |call, txn: &_| {
        mailboxes.update(call, txn, Vec::new()).await?;
        mailboxes.delete(call, txn, Vec::new()).await
    };
    fixture.commit(account(1), none).await.unwrap();
    let view = fixture.view(account(1));
    assert_eq!(mailboxes.select(account(1), &view, Vec::new()).await.unwrap(), []);
    assert_eq!(all(fixture, 10).await, [mailbox(1)]);
}

pub async fn list_pages_ascend_and_end(fixture: &Fixture) {
    let rows: Vec<_> = (0..23).map(mailbox).collect();
    insert(fixture, rows.clone()).await.unwrap();
    for limit in [1, 7, 23, 4096] {
        assert_eq!(all(fixture, limit).await, rows, "in pages of {limit}");
    }
}

pub async fn list_goes_on_after_a_name_that_is_gone(fixture: &Fixture) {
    insert(fixture, vec![mailbox(1), mailbox(3)]).await.unwrap();
    let view = fixture.view(account(1));
    let after = Some(mailbox(2).id);
    let page = fixture.stores.mailboxes.list(account(1), &view, after, 10).await.unwrap();
    assert_eq!(page.rows, [mailbox(3)]);
}

pub async fn drop_leaves_the_space_as_after_create(fixture: &Fixture) {
    insert(fixture, (0..9).map(mailbox).collect()).await.unwrap();
    let mailboxes = &fixture.stores.mailboxes;
    for _ in 0..2 {
        let drop = async |call, txn: &_| mailboxes.drop_all(call, txn).await;
        fixture.commit(account(1), drop).await.unwrap();
        assert_eq!(all(fixture, 10).await, []);
    }
    insert(fixture, vec![mailbox(4)]).await.unwrap();
    assert_eq!(all(fixture, 10).await, [mailbox(4)]);
}

pub async fn unknown_properties_come_back(fixture: &Fixture) {
    let property = |name: &str, value: &[u8]| Property { name: name.into(), value: value.to_vec() };
    let extra = vec![property("z", b""), property("annotation", &[0, 159, 146, 150])];
    let row = MailboxRow { extra, ..mailbox(1) };
    insert(fixture, vec![row.clone()]).await.unwrap();
    assert_eq!(all(fixture, 10).await, [row]);
}

pub async fn a_transaction_sees_its_own_writes(fixture: &Fixture) {
    let mailboxes = &fixture.stores.mailboxes;
    let work = async |call, txn: &postroom_node::storage::Txn| {
        mailboxes.insert(call, txn, vec![mailbox(1), mailbox(2)]).await?;
        mailboxes.delete(call, txn, vec![mailbox(1).id]).await?;
        let found = mailboxes.list(call, &txn.view(), None, 10).await?;
        assert_eq!(found.rows, [mailbox(2)]);
        mailboxes.insert(call, txn, vec![mailbox(1)]).await
    };
    fixture.commit(account(1), work).await.unwrap();
    assert_eq!(all(fixture, 10).await, [mailbox(1), mailbox(2)]);
}

pub async fn a_forgotten_transaction_leaves_nothing(fixture: &Fixture) {
    insert(fixture, vec![mailbox(1)]).await.unwrap();
    let txn = fixture.txn(account(1));
    let mailboxes = &fixture.stores.mailboxes;
    mailboxes.insert(account(1), &txn, vec![mailbox(2)]).await.unwrap();
    mailboxes.delete(account(1), &txn, vec![mailbox(1).id]).await.unwrap();
    drop(txn);
    assert_eq!(all(fixture, 10).await, [mailbox(1)]);
}

pub async fn random_records_match_a_map(fixture: &Fixture) {
    let mut random = Random::from_environment();
    let mut model: BTreeMap<MailboxId, MailboxRow> = BTreeMap::new();
    let mailboxes = &fixture.stores.mailboxes;
    for step in 0..150 {
        let number = random.below(12) as u32;
        let id = mailbox(number).id;
        let known = model.contains_key(&id);
        let name = MailboxName::new(&format!("Step/{step}")).unwrap();
        let row = MailboxRow { name, ..mailbox(number) };
        let verb = random.below(3);
        let rows = vec![row.clone()];
        let work = async |call, txn: &_| match verb {
            0 => mailboxes.insert(call, txn, rows).await,
            1 => mailboxes.update(call, txn, rows).await,
            _ => mailboxes.delete(call, txn, vec![id]).await,
        };
        let answer = fixture.commit(account(1), work).await;
        match (verb, known) {
            (0, true) => assert!(matches!(answer, Err(StoreError::AlreadyExists(_))), "{answer:?}"),
            (1, false) => assert!(matches!(answer, Err(StoreError::NotFound(_))), "{answer:?}"),
            (0 | 1, _) => {
                answer.unwrap();
                model.insert(id, row);
            }
            _ => {
                answer.unwrap();
                model.remove(&id);
            }
        }
        let expected: Vec<_> = model.values().cloned().collect();
        assert_eq!(all(fixture, 1 + step % 5).await, expected, "after step {step}");
    }
}

pub async fn check_finds_nothing_in_sound_records(fixture: &Fixture) {
    insert(fixture, (0..9).map(mailbox).collect()).await.unwrap();
    let mailboxes = &fixture.stores.mailboxes;
    let (mut after, mut checked) = (None, 0);
    loop {
        let txn = fixture.txn(account(1));
        let page = mailboxes.check(account(1), &txn, after, false).await.unwrap();
        assert_eq!(page.findings, []);
        assert_eq!(txn.take(), [], "a check without repair writes nothing");
        checked += page.checked;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(checked, 9);
}
