//! LMTP through the real driver over loopback.

use std::sync::Arc;

use postroom_core::calls::{Call, Recipient, Reply};
use postroom_core::error::StoreError;
use postroom_core::lmtp;
use postroom_core::types::{AccountId, MailboxId, MessageId, Uid, UidValidity};
use tokio::net::TcpStream;

use super::fake::Asked;
use super::listener::{any_port, door};
use super::{PATIENCE, hear, hear_rest, send, soon};
use crate::front::{Connections, Door, Front, lmtp_sessions};

fn lmtp_door() -> (Door, tokio::sync::mpsc::Receiver<Asked>) {
    let (mut door, _, questions) = door(Connections::new(10, 10));
    door.sessions = lmtp_sessions(Arc::new(lmtp::Config {
        name: "mail.example".into(),
        max_message_octets: 10 << 20,
        starttls: false,
        budget: Arc::default(),
    }));
    (door, questions)
}

async fn question(questions: &mut tokio::sync::mpsc::Receiver<Asked>) -> Asked {
    soon("a call", questions.recv()).await.expect("the driver lives")
}

fn recipient() -> Result<Reply, StoreError> {
    let account = AccountId([1; 16]);
    Ok(Reply::Recipient(Recipient { account, user: "anna".into(), folder: None }))
}

fn appended() -> Result<Reply, StoreError> {
    let uid_validity = UidValidity(std::num::NonZeroU32::MIN);
    let (mailbox, message_ids) = (MailboxId([1; 16]), vec![MessageId([1; 16])]);
    Ok(Reply::Appended { mailbox, uid_validity, uids: vec![Uid::MIN], message_ids })
}

#[tokio::test]
async fn a_large_mail_arrives_whole_and_250_comes_after_its_delivery() {
    let front = Front::new();
    let (door, mut questions) = lmtp_door();
    let mut client = TcpStream::connect(front.open(door, any_port()).await.unwrap()).await.unwrap();
    hear(&mut client, "220 mail.example LMTP Postroom\r\n").await;
    let line = format!("{}\r\n", "x".repeat(98));
    let message = line.repeat(50_000);
    let begin = "LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<anna>\r\nDATA\r\n";
    let (mut read, mut write) = client.split();
    let sending = async {
        send(&mut write, begin).await;
        send(&mut write, &message).await;
        send(&mut write, ".\r\nQUIT\r\n").await;
    };
    let serving = async {
        question(&mut questions).await.answer(recipient());
        let asked = question(&mut questions).await;
        let Call::Deliver { body, .. } = &asked.call else { panic!("{:?}", asked.call) };
        assert!(body.ends_with(message.as_bytes()));
        assert!(body.starts_with(b"Return-Path: <>\r\nDelivered-To: anna\r\n"));
        asked.answer(appended());
    };
    tokio::join!(sending, serving);
    let heard = hear_rest(&mut read).await;
    assert!(heard.ends_with("250 2.0.0 <anna> delivered\r\n221 2.0.0 bye\r\n"), "{heard}");
    drop(client);
    assert!(front.stop(PATIENCE).await);
}

#[tokio::test]
async fn a_delivery_is_finished_though_the_mta_has_gone() {
    let front = Front::new();
    let (door, mut questions) = lmtp_door();
    let connections = door.connections.clone();
    let mut client = TcpStream::connect(front.open(door, any_port()).await.unwrap()).await.unwrap();
    send(&mut client, "LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<anna>\r\nDATA\r\nx\r\n.\r\n").await;
    question(&mut questions).await.answer(recipient());
    let asked = question(&mut questions).await;
    drop(client);
    asked.answer(appended());
    soon("the connection ends", async {
        while !connections.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
