//! Components as hooks: what crosses the border, and what a file says of it.

use bytes::Bytes;
use postroom_core::hook::{Delivered, Delivery, Fields, Verdict};

use super::*;
use crate::storage::Body;

const TEXT: &[u8] = b"X-Spam-Flag: YES\r\n\r\n";

async fn load(package: &str, settings: &[(&str, &str)]) -> Bench {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let settings = settings.iter().map(owned).collect();
    let grants = Grants { settings, ..Grants::default() };
    let host = Host::new(HostConfig::default()).unwrap();
    let component = host.load(guest(package), &grants, one_instance()).await.unwrap();
    Bench { engine: Arc::new(MemoryEngine::new()), component }
}

fn delivery() -> Delivery {
    let mailbox = MailboxName::new("lists/a").unwrap();
    Delivery { sender: Some("s@x.org".into()), user: "anna".into(), mailbox, size: 19 }
}

impl Bench {
    async fn before(&self) -> Result<Verdict, StoreError> {
        let digest = *blake3::hash(TEXT).as_bytes();
        let message = Body::Inline { key: [1; 16], octets: Bytes::from_static(TEXT), digest };
        let hook: &dyn Hook = &*self.component;
        hook.before_delivery(call(1), &self.view(1), &delivery(), message).await
    }

    async fn after(&self) -> Result<(), StoreError> {
        let delivered = Delivered {
            delivery: delivery(),
            mailbox: MailboxId::from_u128(21),
            uid_validity: UidValidity(22.try_into().unwrap()),
            uid: Uid::new(23).unwrap(),
            message_id: MessageId::from_u128(24),
        };
        let hook: &dyn Hook = &*self.component;
        hook.after_delivery(call(1), &self.view(1), &delivered).await
    }
}

#[tokio::test]
async fn a_hook_is_given_what_is_delivered_and_answers_what_becomes_of_it() {
    let refile = load("refile", &[]).await;
    let Verdict::Accept(changes) = refile.before().await.unwrap() else { panic!() };
    assert_eq!(changes.mailbox, Some(MailboxName::new("Junk").unwrap()));
    assert_eq!(changes.fields, Fields::new([("X-Postroom-Refile", "Junk")]).unwrap());
    assert_eq!(refile.after().await, Ok(()));
    let refile = load("refile", &[("refuse", "no\nspam")]).await;
    assert_eq!(refile.before().await, Ok(Verdict::Refuse("no spam".into())));
}

#[tokio::test]
async fn everything_that_is_known_of_a_delivery_reaches_the_hook() {
    let echo = load("faulty", &[("sin", "echo")]).await;
    let asked = echo.before().await.unwrap_err().to_string();
    let told = echo.after().await.unwrap_err().to_string();
    for part in [r#"Some("s@x.org")"#, r#""anna""#, r#""lists/a""#, "size: 19"] {
        assert!(asked.contains(part) && told.contains(part), "{part}: {asked}; {told}");
    }
    assert!(asked.contains(&format!("of {} octets", TEXT.len())), "{asked}");
    for part in ["low: 21", "uid-validity: 22", "uid: 23", "low: 24"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[tokio::test]
async fn what_no_message_can_have_is_the_hooks_fault() {
    for (sin, why) in [
        ("nonsense", "value of header field X-Faulty"),
        ("wrong", "no empty level"),
        ("other", "a later version"),
    ] {
        let answer = load("faulty", &[("sin", sin)]).await.before().await;
        let told = matches!(&answer, Err(StoreError::Broken(text)) if text.contains(why));
        assert!(told, "{sin}: {answer:?}");
    }
}

#[tokio::test]
async fn a_component_without_hooks_is_not_asked() {
    let memory = load("memory", &[]).await;
    assert!(!memory.component.has_hooks());
    assert!(matches!(memory.before().await, Err(StoreError::Unsupported(_))));
    assert!(matches!(memory.after().await, Err(StoreError::Unsupported(_))));
}

#[tokio::test]
async fn an_inspection_tells_hooks_from_kinds_of_record() {
    for (package, kinds, hooks) in [("refile", 0, true), ("faulty", 4, true), ("memory", 4, false)]
    {
        let said = load(package, &[]).await.component.inspection().clone();
        assert_eq!((said.kinds.len(), said.hooks), (kinds, hooks), "{package}");
        assert_eq!(said.manifest.unwrap().kinds.len(), kinds, "{package}");
    }
}
