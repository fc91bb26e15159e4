//! Which deliveries are filed where.

use postroom_guest::testing::{SpaceBody, block_on};
use postroom_guest::{Call, Changes, Delivery, Hooks, Id, Verdict};
use refile::{Refile, TRACE};

fn check(message: &str, expected: Verdict) {
    let call = Call { account: Id::from_u128(1), transaction: Id::from_u128(2), extra: Vec::new() };
    let delivery = Delivery {
        sender: None,
        user: "anna".to_owned(),
        mailbox: "INBOX".to_owned(),
        size: message.len() as u64,
        extra: Vec::new(),
    };
    let body = SpaceBody::new(message.as_bytes());
    let verdict = block_on(Refile.before_delivery(&call, &delivery, &body));
    assert_eq!(verdict, Ok(expected), "{message:?}");
}

#[test]
fn what_is_marked_goes_to_junk_with_a_trace() {
    let junk = || Verdict::Accept(Changes::none().file_into("Junk").add(TRACE, "Junk"));
    check("X-Spam-Flag: YES\r\n\r\nbuy\r\n", junk());
    check("Subject: x\r\nx-spam-flag:\r\n yes \r\n\r\nbuy\r\n", junk());
}

#[test]
fn everything_else_is_kept() {
    check("X-Spam-Flag: NO\r\n\r\nhello\r\n", Verdict::keep());
    check("Subject: x\r\n\r\nX-Spam-Flag: YES\r\n", Verdict::keep());
    check("", Verdict::keep());
}
