//! What a check finds and mends.

use postroom_core::calls::Call;
use postroom_core::error::StoreError;
use postroom_core::types::SystemFlag;

use super::{Bench, all, mailbox, uid};
use crate::message_store::{CheckEvent, CheckFinding};

async fn check(bench: &Bench, repair: bool) -> Vec<CheckFinding> {
    let mut found = Vec::new();
    let mut listen = |event| match event {
        CheckEvent::Finding(finding) => found.push(finding),
        CheckEvent::Progress { .. } => {}
    };
    bench.store.check(repair, &mut listen).await.unwrap();
    found
}

#[tokio::test]
async fn a_row_with_another_size_is_put_right_and_its_flags_stay() {
    let bench = Bench::new();
    let client = bench.alice().await;
    client.append("INBOX", "whole").await;
    *bench.plain.edit_inserted.lock().unwrap() = Some(|row| row.size += 3);
    client.append("INBOX", "wrong").await;
    *bench.plain.edit_inserted.lock().unwrap() = None;
    let inbox = client.select("INBOX").await.status.mailbox;
    client.flag(&all(), SystemFlag::Flagged).await;
    let before = bench.rows(inbox).await;
    drop(client);
    let bench = bench.restart().await;
    let client = bench.alice().await;
    let select = Call::Select { name: mailbox("INBOX"), read_write: true };
    let refused = client.call(select).await;
    assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");

    for (repair, found) in [(false, 1), (true, 1), (true, 0), (false, 0)] {
        let findings = check(&bench, repair).await;
        assert_eq!(findings.len(), found, "{findings:?}");
        assert!(findings.iter().all(|finding| finding.repaired == repair), "{findings:?}");
    }

    let after = bench.rows(inbox).await;
    assert_eq!(after[0], before[0]);
    let mended = postroom_core::records::MessageRow {
        name: after[1].name.clone(),
        size: 5,
        ..before[1].clone()
    };
    assert_eq!(after[1], mended);
    assert_eq!(client.select("INBOX").await.status.size, 10);
    assert_eq!(client.body(uid(2)).await.as_deref(), Some(&b"wrong"[..]));
}
