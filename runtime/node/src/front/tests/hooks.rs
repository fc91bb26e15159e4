//! What an MTA hears when hooks have their say: real components, the real message store, LMTP over
//! loopback.

use std::collections::BTreeMap;
use std::sync::Arc;

use postroom_core::calls::{Call, Reply, Secret};
use postroom_core::lmtp;
use postroom_core::types::MailboxName;
use tokio::net::TcpStream;

use super::listener::{any_port, door};
use super::{PATIENCE, hear_rest, send, soon};
use crate::front::{Connections, Front, lmtp_sessions};
use crate::guest::native_plain::Plain;
use crate::guest::tests::guest;
use crate::guest::{Grants, Hook, Host, HostConfig, Limits};
use crate::message_store::{Config, DirectoryMode, MessageStore};
use crate::storage::MemoryEngine;

async fn hook(package: &str, settings: &[(&str, &str)]) -> Arc<dyn Hook> {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let settings: BTreeMap<_, _> = settings.iter().map(owned).collect();
    let grants = Grants { settings, ..Grants::default() };
    let host = Host::new(HostConfig::default()).unwrap();
    host.load(guest(package), &grants, Limits::default()).await.unwrap()
}

async fn messages(store: &MessageStore, name: &str) -> u32 {
    let session = store.session_of("anna").await.unwrap();
    let status = Call::Status { name: MailboxName::new(name).unwrap() };
    match store.call(&session, store.transaction(), status).await {
        Ok(Reply::Status(status)) => status.messages,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_mta_hears_delivered_refused_or_come_again() {
    let bait = [("sin", "trap"), ("verb", "hook.before"), ("text", "Subject: bait")];
    let nonsense = [("sin", "nonsense"), ("verb", "hook.before"), ("text", "Subject: odd")];
    let refuse = [("field", "X-Virus"), ("refuse", "no viruses, Grüße")];
    let hooks = vec![
        hook("faulty", &bait).await,
        hook("faulty", &nonsense).await,
        hook("refile", &refuse).await,
        hook("refile", &[]).await,
    ];
    let directory = DirectoryMode::Dev { password: Secret("pw".into()) };
    let config = Config { node: "test".into(), generation: 1, directory };
    let (stores, _) = Plain::stores();
    let store = MessageStore::hooked(config, stores, hooks, Arc::new(MemoryEngine::new()));
    let (mut door, _, _) = door(Connections::new(10, 10));
    door.store = Arc::new(store.clone());
    door.sessions = lmtp_sessions(Arc::new(lmtp::Config {
        name: "mail.example".into(),
        max_message_octets: 1 << 20,
        starttls: false,
        budget: Arc::default(),
    }));
    let front = Front::new();
    let mut client = TcpStream::connect(front.open(door, any_port()).await.unwrap()).await.unwrap();
    let mails = [
        ("Subject: bait", "451 4.3.0 the mail store failed; try again later"),
        ("Subject: odd", "451 4.3.0 the mail store failed; try again later"),
        ("X-Virus: YES", "550 5.7.1 no viruses, Gr??e"),
        ("X-Spam-Flag: YES", "250 2.0.0 <anna> delivered"),
        ("Subject: hello", "250 2.0.0 <anna> delivered"),
    ];
    send(&mut client, "LHLO me\r\n").await;
    for (field, _) in mails {
        let mail =
            format!("MAIL FROM:<s@x.org>\r\nRCPT TO:<anna>\r\nDATA\r\n{field}\r\n\r\nx\r\n.\r\n");
        send(&mut client, &mail).await;
    }
    send(&mut client, "QUIT\r\n").await;
    let heard = soon("all is answered", hear_rest(&mut client)).await;
    let after_data = heard.split("354 go ahead").skip(1);
    let replies: Vec<_> = after_data.filter_map(|rest| rest.split("\r\n").nth(1)).collect();
    assert_eq!(replies, mails.map(|(_, reply)| reply), "{heard}");
    assert_eq!((messages(&store, "INBOX").await, messages(&store, "Junk").await), (1, 1));
    drop(client);
    assert!(front.stop(PATIENCE).await);
    store.close().await;
}
