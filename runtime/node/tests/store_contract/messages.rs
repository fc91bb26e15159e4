//! Cases that concern messages and their bodies.

use std::collections::BTreeMap;

use bytes::Bytes;
use postroom_core::error::StoreError;
use postroom_core::records::{MessageRow, Property};
use postroom_core::types::{Flag, Flags, MailboxId, MessageId, ModSeq, ThreadId, Timestamp, Uid};
use postroom_node::guest::{CallInfo, MessagePlace, Part};
use postroom_node::storage::{Body, Txn};

use crate::fixture::{Fixture, Random, account};

const INBOX: MailboxId = MailboxId::from_u128(1);
const OTHER: MailboxId = MailboxId::from_u128(u128::MAX - 1);

fn uid(number: u32) -> Uid {
    Uid::new(number).unwrap()
}

fn place(mailbox: MailboxId, number: u32) -> MessagePlace {
    MessagePlace { mailbox, uid: uid(number) }
}

fn message(mailbox: MailboxId, number: u32) -> MessageRow {
    MessageRow {
        name: format!("m{:x}-{number}", mailbox.as_u128() as u16),
        mailbox,
        uid: uid(number),
        modseq: ModSeq(u64::from(number) + 100),
        flags: Flags::of([Flag::parse("\\Seen").unwrap(), Flag::parse("$Forwarded").unwrap()]),
        internal_date: Timestamp { seconds: -5, offset_minutes: -570 },
        save_date: 1_800_000_000,
        size: body_of(number).len() as u64,
        message_id: MessageId::from_u128(u128::MAX),
        thread_id: ThreadId::from_u128(3),
        from: vec!["Änne <aenne@example.org>".into()],
        to: vec!["b@example.org".into(), "c@example.org".into()],
        cc: Vec::new(),
        bcc: vec!["".into()],
        extra: vec![Property { name: "later".into(), value: vec![1, 2, 3] }],
    }
}

fn body_of(number: u32) -> Bytes {
    // From nothing to far above any inline threshold.
    let octets = [0, 1, 500, 70_000, 300_000][number as usize % 5];
    (0..octets).map(|at| (at as u32 * 31 + number) as u8).collect::<Vec<_>>().into()
}

async fn insert(
    fixture: &Fixture,
    call: CallInfo,
    rows: Vec<MessageRow>,
) -> Result<(), StoreError> {
    let mut bodies = Vec::new();
    for row in &rows {
        bodies.push(fixture.body(call, body_of(row.uid.get())).await);
    }
    let messages = &fixture.stores.messages;
    fixture.commit(call, async |call, txn| messages.insert(call, txn, rows, bodies).await).await
}

async fn list(
    fixture: &Fixture,
    call: CallInfo,
    mailbox: MailboxId,
    limit: u32,
) -> Vec<MessageRow> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let view = fixture.view(call);
        let messages = &fixture.stores.messages;
        let page = messages.list(call, &view, mailbox, after, limit).await.unwrap();
        assert!(page.rows.len() <= limit as usize && (!page.more || !page.rows.is_empty()));
        after = page.rows.last().map(|row| row.uid);
        rows.extend(page.rows);
        if !page.more {
            return rows;
        }
    }
}

/// What the host makes of the answer to a fetch of a range.
async fn read(fixture: &Fixture, row: &MessageRow, at: u64, max: u64) -> Option<Bytes> {
    let (call, view) = (account(1), fixture.view(account(1)));
    let messages = &fixture.stores.messages;
    let name = row.name.clone();
    match messages.fetch(call, &view, row.mailbox, name, at, max).await.unwrap()? {
        Part::Octets(octets) => Some(octets),
        Part::Body(body) => Some(view.read_body(&body, at, max).await.unwrap()),
    }
}

pub async fn messages_are_found_again_with_every_field(fixture: &Fixture) {
    insert(fixture, account(1), vec![message(INBOX, 1), message(OTHER, 1)]).await.unwrap();
    let view = fixture.view(account(1));
    let places = vec![place(OTHER, 1), place(INBOX, 2), place(INBOX, 1)];
    let found = fixture.stores.messages.select(account(1), &view, places).await.unwrap();
    assert_eq!(found, [Some(message(OTHER, 1)), None, Some(message(INBOX, 1))]);
}

pub async fn bodies_come_back_octet_by_octet(fixture: &Fixture) {
    let rows: Vec<_> = (1..=10).map(|number| message(INBOX, number)).collect();
    insert(fixture, account(1), rows.clone()).await.unwrap();
    for row in rows {
        let octets = read(fixture, &row, 0, u64::MAX).await.expect("it is there");
        assert!(octets == body_of(row.uid.get()), "body of {}", row.uid);
    }
    let missing = message(INBOX, 77);
    assert_eq!(read(fixture, &missing, 0, 10).await, None);
}

pub async fn a_range_of_a_body_is_that_range(fixture: &Fixture) {
    let row = message(INBOX, 4);
    insert(fixture, account(1), vec![row.clone()]).await.unwrap();
    let whole = body_of(4);
    let size = whole.len() as u64;
    for (at, max) in
        [(0, 1), (69_999, 2), (size - 1, 10), (size, 10), (size + 5, 1), (1000, 65_536)]
    {
        let from = at.min(size) as usize;
        let upto = at.saturating_add(max).min(size).max(from as u64) as usize;
        let octets = read(fixture, &row, at, max).await.unwrap();
        assert!(octets == whole.slice(from..upto), "{max} octets from {at}");
    }
}

pub async fn update_puts_the_state_after(fixture: &Fixture) {
    insert(fixture, account(1), vec![message(INBOX, 1), message(INBOX, 2)]).await.unwrap();
    let changed = MessageRow { flags: Flags::default(), modseq: ModSeq(999), ..message(INBOX, 2) };
    let rows = vec![changed.clone()];
    let messages = &fixture.stores.messages;
    fixture
        .commit(account(1), async |call, txn| messages.update(call, txn, rows).await)
        .await
        .unwrap();
    assert_eq!(list(fixture, account(1), INBOX, 10).await, [message(INBOX, 1), changed]);
}

pub async fn deleted_messages_stay_readable_until_settled(fixture: &Fixture) {
    let row = message(INBOX, 3);
    insert(fixture, account(1), vec![row.clone()]).await.unwrap();
    let messages = &fixture.stores.messages;
    let places = vec![place(INBOX, 3), place(INBOX, 99)];
    fixture
        .commit(account(1), async |call, txn| messages.delete(call, txn, places).await)
        .await
        .unwrap();
    assert_eq!(list(fixture, account(1), INBOX, 10).await, []);
    assert!(read(fixture, &row, 0, u64::MAX).await.unwrap() == body_of(3));
    for _ in 0..2 {
        let view = fixture.view(account(1));
        messages.settle(account(1), &view, INBOX, vec![row.name.clone()]).await.unwrap();
    }
}

pub async fn list_stays_in_its_mailbox_and_ascends(fixture: &Fixture) {
    let numbers = [5, 1, 70_000, 256, 255];
    let rows = |mailbox| numbers.map(|number| message(mailbox, number)).to_vec();
    insert(fixture, account(1), rows(INBOX)).await.unwrap();
    insert(fixture, account(1), rows(OTHER)).await.unwrap();
    for mailbox in [INBOX, OTHER] {
        for limit in [1, 2, 100] {
            let found = list(fixture, account(1), mailbox, limit).await;
            let uids: Vec<_> = found.iter().map(|row| row.uid.get()).collect();
            assert_eq!(uids, [1, 5, 255, 256, 70_000]);
            assert!(found.iter().all(|row| row.mailbox == mailbox));
        }
    }
}

pub async fn drop_removes_one_mailbox_only(fixture: &Fixture) {
    insert(fixture, account(1), vec![message(INBOX, 1), message(OTHER, 1)]).await.unwrap();
    let messages = &fixture.stores.messages;
    for _ in 0..2 {
        let drop = async |call, txn: &Txn| messages.drop_mailbox(call, txn, INBOX).await;
        fixture.commit(account(1), drop).await.unwrap();
        assert_eq!(list(fixture, account(1), INBOX, 10).await, []);
        assert_eq!(list(fixture, account(1), OTHER, 10).await, [message(OTHER, 1)]);
    }
}

pub async fn four_thousand_rows_in_one_call(fixture: &Fixture) {
    // The most that the host promises to send (store.rule.10).
    let small = |number: u32| MessageRow { size: 0, ..message(INBOX, number) };
    let rows: Vec<_> = (1..=4096).map(small).collect();
    let empty = fixture.body(account(1), Bytes::new()).await;
    let bodies: Vec<Body> = rows.iter().map(|_| empty.clone()).collect();
    let messages = &fixture.stores.messages;
    let given = rows.clone();
    let insert = async |call, txn: &Txn| messages.insert(call, txn, given, bodies).await;
    fixture.commit(account(1), insert).await.unwrap();
    assert!(list(fixture, account(1), INBOX, 4096).await == rows);
}

pub async fn accounts_do_not_see_each_other(fixture: &Fixture) {
    insert(fixture, account(1), vec![message(INBOX, 1)]).await.unwrap();
    insert(fixture, account(2), vec![message(INBOX, 2)]).await.unwrap();
    assert_eq!(list(fixture, account(1), INBOX, 10).await, [message(INBOX, 1)]);
    assert_eq!(list(fixture, account(2), INBOX, 10).await, [message(INBOX, 2)]);
    let hidden = message(INBOX, 2);
    assert_eq!(read(fixture, &hidden, 0, 10).await, None);
}

pub async fn random_messages_match_a_map(fixture: &Fixture) {
    let mut random = Random::from_environment();
    let mut model: BTreeMap<(MailboxId, Uid), MessageRow> = BTreeMap::new();
    let messages = &fixture.stores.messages;
    let mut next = 1;
    for step in 0..120_u64 {
        let mailbox = [INBOX, OTHER][random.below(2) as usize];
        let known: Vec<_> = model.keys().copied().filter(|key| key.0 == mailbox).collect();
        let some =
            (!known.is_empty()).then(|| known[random.below(known.len().max(1) as u64) as usize]);
        match (random.below(4), some) {
            (0 | 1, _) | (_, None) => {
                let row = message(mailbox, next);
                next += 1;
                insert(fixture, account(1), vec![row.clone()]).await.unwrap();
                model.insert((mailbox, row.uid), row);
            }
            (2, Some(key)) => {
                let row = MessageRow { modseq: ModSeq(10_000 + step), ..model[&key].clone() };
                let rows = vec![row.clone()];
                let update = async |call, txn: &Txn| messages.update(call, txn, rows).await;
                fixture.commit(account(1), update).await.unwrap();
                model.insert(key, row);
            }
            (_, Some(key)) => {
                let places = vec![MessagePlace { mailbox: key.0, uid: key.1 }];
                let delete = async |call, txn: &Txn| messages.delete(call, txn, places).await;
                fixture.commit(account(1), delete).await.unwrap();
                model.remove(&key);
            }
        }
        let expected: Vec<_> =
            model.iter().filter(|(key, _)| key.0 == mailbox).map(|(_, row)| row.clone()).collect();
        let found = list(fixture, account(1), mailbox, 1 + step as u32 % 6).await;
        assert!(found == expected, "after step {step}");
    }
}

pub async fn check_looks_at_every_message(fixture: &Fixture) {
    let rows = (1..=30).map(|number| message(INBOX, number)).collect();
    insert(fixture, account(1), rows).await.unwrap();
    let messages = &fixture.stores.messages;
    let (mut after, mut checked) = (None, 0);
    loop {
        let txn = fixture.txn(account(1));
        let page = messages.check(account(1), &txn, after, true).await.unwrap();
        assert_eq!(page.findings, []);
        checked += page.checked;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // A store may count the parts of a message apart, but passes none over.
    assert!(checked >= 30, "{checked}");
}
