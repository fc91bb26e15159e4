//! The admin API over loopback, against operations in memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use postroom_core::calls::{MailboxInfo, MailboxStatus, NewMessage, Secret};
use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, UserRow};
use postroom_core::types::{
    AccountId, MailboxId, MailboxName, MessageId, ModSeq, Timestamp, Uid, UidValidity,
};
use tokio::net::TcpStream;

use super::listener::any_port;
use super::{PATIENCE, hear_rest, send, soon};
use crate::front::Front;
use crate::front::admin::frames::{Framed, Head, Line, Reader};
use crate::front::admin::operations::{Exporting, Operations};
use crate::front::admin::stores::{Asked, Plan, StoreLog, StoreStatus, Stores};
use crate::front::admin::{self, Admin, wire};
use crate::guest::Page;
use crate::message_store::{CheckEvent, CheckFinding, ExportedMessage, NewUser};
use crate::storage::keeping::{Backup, BackupPiece};

/// Largest message in these tests, in octets.
const MAX_OCTETS: u64 = 100_000;

/// Users with one INBOX each.
#[derive(Default)]
struct Memory {
    users: Mutex<BTreeMap<String, Vec<NewMessage>>>,
    /// A check waits for this before it ends.
    check_goes_on: tokio::sync::Notify,
}

impl Memory {
    fn of<T>(
        &self,
        user: &str,
        act: impl FnOnce(&mut Vec<NewMessage>) -> T,
    ) -> Result<T, StoreError> {
        let mut users = self.users.lock().unwrap();
        users.get_mut(user).map(act).ok_or_else(|| StoreError::NotFound(user.to_owned()))
    }
}

fn row(name: &str) -> UserRow {
    UserRow {
        name: name.to_owned(),
        account: Some(AccountId([1; 16])),
        alias_of: None,
        password: Some("$argon2id$secret".to_owned()),
        quota_octets: None,
        extra: Vec::new(),
    }
}

#[async_trait]
impl Operations for Memory {
    async fn users(&self, after: Option<String>, limit: u32) -> Result<Page<UserRow>, StoreError> {
        let users = self.users.lock().unwrap();
        let after = after.unwrap_or_default();
        let mut rows: Vec<_> =
            users.keys().filter(|name| **name > after).map(|name| row(name)).collect();
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Ok(Page { rows, more })
    }

    async fn create_user(&self, user: NewUser) -> Result<UserRow, StoreError> {
        let mut users = self.users.lock().unwrap();
        match users.contains_key(&user.name) {
            true => Err(StoreError::AlreadyExists(user.name)),
            false => {
                users.insert(user.name.clone(), Vec::new());
                Ok(row(&user.name))
            }
        }
    }

    async fn set_password(&self, user: &str, _: Secret) -> Result<(), StoreError> {
        self.of(user, |_| ())
    }

    async fn remove_user(&self, user: &str) -> Result<(), StoreError> {
        self.of(user, |_| ())?;
        self.users.lock().unwrap().remove(user);
        Ok(())
    }

    async fn domains(&self, _: Option<String>, _: u32) -> Result<Page<DomainRow>, StoreError> {
        Err(StoreError::Unavailable("storage is away".into()))
    }

    async fn create_domain(&self, name: &str, to: Option<&str>) -> Result<DomainRow, StoreError> {
        let alias_of = to.map(str::to_owned);
        Ok(DomainRow { name: name.to_owned(), alias_of, extra: Vec::new() })
    }

    async fn remove_domain(&self, _: &str) -> Result<(), StoreError> {
        Err(StoreError::Denied("it has users".into()))
    }

    async fn mailboxes_of(
        &self,
        user: &str,
    ) -> Result<Vec<(MailboxInfo, MailboxStatus)>, StoreError> {
        let messages = self.of(user, |messages| messages.len())?;
        let id = MailboxId([2; 16]);
        let status = MailboxStatus {
            mailbox: id,
            messages: messages as u32,
            recent: 0,
            unseen: 0,
            deleted: 0,
            size: 0,
            uid_next: Uid::MIN,
            uid_validity: UidValidity(std::num::NonZeroU32::MIN),
            highest_modseq: ModSeq(1),
        };
        Ok(vec![(MailboxInfo { id, name: MailboxName::inbox(), special_use: None }, status)])
    }

    async fn ensure_mailbox(&self, user: &str, _: &MailboxName) -> Result<(), StoreError> {
        self.of(user, |_| ())
    }

    async fn import(
        &self,
        user: &str,
        _: &MailboxName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Uid>, StoreError> {
        self.of(user, |box_| {
            let first = box_.len() as u32;
            box_.extend(messages);
            (first..box_.len() as u32).filter_map(|before| Uid::new(before + 1)).collect()
        })
    }

    async fn export(&self, user: &str, _: &MailboxName) -> Result<Box<dyn Exporting>, StoreError> {
        let messages = self.of(user, |messages| messages.clone())?;
        Ok(Box::new(Out { messages: messages.into_iter(), number: 0 }))
    }

    async fn scrub(&self, event: &mut (dyn FnMut(CheckEvent) + Send)) -> Result<(), StoreError> {
        event(CheckEvent::Progress { checked: 9 });
        Ok(())
    }

    async fn backup(&self) -> Result<Backup, StoreError> {
        let (send, pieces) = tokio::sync::mpsc::channel(4);
        for piece in
            [BackupPiece::File("format".into()), BackupPiece::Octets("x".into()), BackupPiece::Done]
        {
            let _ = send.send(Ok(piece)).await;
        }
        Ok(pieces)
    }

    async fn check(
        &self,
        _: bool,
        event: &mut (dyn FnMut(CheckEvent) + Send),
    ) -> Result<(), StoreError> {
        event(CheckEvent::Progress { checked: 7 });
        event(CheckEvent::Finding(CheckFinding {
            kind: "message".into(),
            account: Some("a".into()),
            name: "m".into(),
            problem: "odd".into(),
            repaired: false,
        }));
        self.check_goes_on.notified().await;
        Ok(())
    }
}

struct Out {
    messages: std::vec::IntoIter<NewMessage>,
    number: u32,
}

#[async_trait]
impl Exporting for Out {
    fn total(&self) -> u64 {
        self.messages.len() as u64
    }

    async fn next(&mut self) -> Option<Result<ExportedMessage, StoreError>> {
        let message = self.messages.next()?;
        self.number += 1;
        if message.body.starts_with(b"damaged") {
            return Some(Err(StoreError::Damaged("message m".into())));
        }
        Some(Ok(ExportedMessage {
            uid: Uid::new(self.number)?,
            flags: message.flags,
            internal_date: message.internal_date.unwrap_or(Timestamp::utc(0)),
            message_id: MessageId([3; 16]),
            body: message.body,
        }))
    }
}

/// A node whose stores cannot be replaced.
struct NoStores;

fn no_stores<T>() -> Result<T, StoreError> {
    Err(StoreError::Refused("no store here".to_owned()))
}

#[async_trait]
impl Stores for NoStores {
    async fn plan(&self, _: &Asked, _: Bytes) -> Result<Plan, StoreError> {
        no_stores()
    }

    async fn deploy(&self, asked: &Asked, octets: Bytes) -> Result<u64, StoreError> {
        match (asked.store.as_str(), asked.probation_s) {
            ("keyed", 60) => Ok(octets.len() as u64),
            _ => no_stores(),
        }
    }

    async fn commit(&self, _: &str) -> Result<(), StoreError> {
        no_stores()
    }

    async fn roll_back(&self, _: &str) -> Result<(), StoreError> {
        no_stores()
    }

    async fn status(&self) -> Result<Vec<StoreStatus>, StoreError> {
        Ok(Vec::new())
    }

    async fn log(&self, store: &str, after: u64) -> Result<StoreLog, StoreError> {
        let (store, node) = (store.to_owned(), "a".to_owned());
        Ok(StoreLog { store, node, began_ms: 1, lines: Vec::new(), forgotten: 0, last: after })
    }
}

struct Rig {
    address: SocketAddr,
    memory: Arc<Memory>,
    front: Front,
    token: Option<&'static str>,
}

impl Rig {
    async fn new(token: Option<&'static str>) -> Self {
        let memory: Arc<Memory> = Arc::default();
        let front = Front::new();
        let admin = Admin {
            operations: memory.clone(),
            stores: Arc::new(NoStores),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            info: Arc::new(|| serde_json::json!({ "stores": ["keyed"] })),
            token: token.map(str::to_owned),
            max_message_octets: MAX_OCTETS,
        };
        let address = admin::open(&front, any_port(), admin).await.unwrap();
        Self { address, memory, front, token }
    }

    /// Sends a request as it stands (with `HOST` and the token) and reads status and body.
    async fn ask(&self, request: &str, body: &[u8]) -> (u16, String) {
        let token = self.token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let head = format!(
            "{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n",
            self.address,
            body.len(),
            token.unwrap_or_default(),
        );
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    async fn raw(&self, octets: &[u8]) -> (u16, String) {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        // A server that has refused already may have closed.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client, octets).await;
        let heard = hear_rest(&mut client).await;
        let status = heard.split(' ').nth(1).unwrap_or_default().parse().unwrap_or(0);
        let body = heard.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    #[track_caller]
    fn check<'a>(
        &'a self,
        request: &'a str,
        body: &'a str,
        status: u16,
        word: &'a str,
    ) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let (found, text) = self.ask(request, body.as_bytes()).await;
            assert_eq!(found, status, "{request} at {caller}: {text}");
            assert!(text.contains(word), "{request} at {caller}: {text:?} lacks {word:?}");
        }
    }
}

#[tokio::test]
async fn users_and_domains_are_made_listed_and_removed() {
    let rig = Rig::new(None).await;
    rig.check("POST /v1/users", r#"{"name":"anna","password":"x"}"#, 201, "\"can_log_in\":true")
        .await;
    rig.check("POST /v1/users", r#"{"name":"anna"}"#, 409, "already-exists").await;
    rig.check("POST /v1/users", r#"{"name":"bert@x.example"}"#, 201, "bert@x.example").await;
    rig.check("GET /v1/users?limit=1", "", 200, "\"more\":true").await;
    rig.check("GET /v1/users?after=anna", "", 200, "\"more\":false").await;
    rig.check("PUT /v1/users?name=anna", r#"{"password":"y"}"#, 204, "").await;
    rig.check("PUT /v1/users?name=nobody", r#"{"password":"y"}"#, 404, "not-found").await;
    rig.check("DELETE /v1/users?name=bert%40x.example", "", 204, "").await;
    rig.check("DELETE /v1/users?name=bert%40x.example", "", 404, "not-found").await;
    rig.check(
        "POST /v1/domains",
        r#"{"name":"a.example","alias_of":"b.example"}"#,
        201,
        "b.example",
    )
    .await;
    rig.check("GET /v1/domains", "", 503, "storage is away").await;
    rig.check("DELETE /v1/domains?name=a.example", "", 403, "denied").await;
    let (_, users) = rig.ask("GET /v1/users", b"").await;
    assert!(!users.contains("argon2"), "hashes stay inside: {users}");
}

#[tokio::test]
async fn mailboxes_are_shown() {
    let rig = Rig::new(None).await;
    rig.check("POST /v1/users", r#"{"name":"anna"}"#, 201, "").await;
    rig.check("GET /v1/mailboxes?user=anna", "", 200, "\"name\":\"INBOX\"").await;
    rig.check("GET /v1/mailboxes?user=anna&mailbox=inbox", "", 200, "\"messages\":0").await;
    rig.check("GET /v1/mailboxes?user=anna&mailbox=other", "", 404, "no mailbox other").await;
    rig.check("GET /v1/mailboxes?user=nobody", "", 404, "not-found").await;
    rig.check("PUT /v1/mailboxes?user=anna&mailbox=a%2Fb", "", 204, "").await;
    rig.check("PUT /v1/mailboxes?user=anna&mailbox=a%2F%2Fb", "", 400, "empty level").await;
    rig.check("PUT /v1/mailboxes?user=anna", "", 400, "which mailbox").await;
}

fn framed(bodies: &[&str]) -> Vec<u8> {
    let mut stream = Vec::new();
    for body in bodies {
        let head =
            Head { octets: body.len() as u64, flags: vec!["\\Seen".into()], ..Head::default() };
        stream.extend_from_slice(&Line::Message(head).to_bytes());
        stream.extend_from_slice(body.as_bytes());
    }
    stream
}

#[tokio::test]
async fn what_is_imported_is_exported_and_damage_is_named() {
    let rig = Rig::new(None).await;
    rig.check("POST /v1/users", r#"{"name":"anna"}"#, 201, "").await;
    let large = "x".repeat(MAX_OCTETS as usize);
    let mut stream = framed(&["one\r\n", "damaged", &large]);
    stream.extend_from_slice(&Line::End(()).to_bytes());
    let place = "/v1/messages?user=anna&mailbox=INBOX";
    let (status, text) = rig.ask(&format!("POST {place}"), &stream).await;
    assert_eq!((status, text.as_str()), (200, r#"{"uids":[1,2,3]}"#));
    // Chunks of HTTP/1.1 would stand between; a client of 1.0 gets none.
    let request = format!("GET {place} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let (_, stream) = rig.raw(request.as_bytes()).await;
    let mut reader = Reader::new(MAX_OCTETS);
    reader.push(stream.as_bytes());
    let mut found = Vec::new();
    while let Some(framed) = reader.take().unwrap() {
        found.push(match framed {
            Framed::Line(line) => format!("{line:?}"),
            Framed::Message(head, body) => {
                format!("{:?} {:?} {}", head.uid, head.flags, body.len())
            }
        });
    }
    let expected = [
        "Total(3)",
        "Some(1) [\"\\\\Seen\"] 5",
        "Damaged(\"message m\")",
        "Some(3) [\"\\\\Seen\"] 100000",
        "End(())",
    ];
    assert_eq!(found, expected);
    assert!(reader.is_at_border());
}

#[tokio::test]
async fn an_import_that_is_not_whole_adds_nothing() {
    let rig = Rig::new(None).await;
    rig.check("POST /v1/users", r#"{"name":"anna"}"#, 201, "").await;
    let post = "POST /v1/messages?user=anna&mailbox=INBOX";
    let end = Line::End(()).to_bytes().to_vec();
    let large = "x".repeat(MAX_OCTETS as usize + 1);
    let cases = [
        (framed(&["one"]), "do not finish"),
        ([framed(&["one"]), b"rubbish\n".to_vec()].concat(), "not a line"),
        ([framed(&["one"]), end.clone(), framed(&["two"])].concat(), "follows the end"),
        ([framed(&[&large]), end.clone()].concat(), "more than 100000"),
        ([framed(&["x"; 1_001]), end.clone()].concat(), "at most 1000 messages"),
        (
            [Line::Damaged("x".into()).to_bytes().to_vec(), end.clone()].concat(),
            "messages and an end",
        ),
        (framed(&["one"])[..20].to_vec(), "do not finish"),
    ];
    for (stream, word) in cases {
        let (status, text) = rig.ask(post, &stream).await;
        assert!(status == 400 && text.contains(word), "{status} {text:?} lacks {word:?}");
    }
    assert!(rig.memory.of("anna", |messages| messages.is_empty()).unwrap());
    rig.check(
        "POST /v1/messages?user=nobody&mailbox=INBOX",
        std::str::from_utf8(&end).unwrap(),
        200,
        "[]",
    )
    .await;
}

#[tokio::test]
async fn a_check_tells_as_it_goes_and_runs_once() {
    let rig = Rig::new(None).await;
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    send(&mut client, "POST /v1/check?repair=true HTTP/1.0\r\nHost: localhost\r\n\r\n").await;
    let mut heard = String::new();
    while !heard.contains("\"problem\":\"odd\"") {
        let mut piece = [0; 4_096];
        let read = soon("a finding", tokio::io::AsyncReadExt::read(&mut client, &mut piece)).await;
        heard += std::str::from_utf8(&piece[..read.unwrap()]).unwrap();
    }
    rig.check("POST /v1/check", "", 503, "running already").await;
    rig.memory.check_goes_on.notify_one();
    heard += &hear_rest(&mut client).await;
    let lines = heard.split_once("\r\n\r\n").unwrap().1.lines();
    let lines: Vec<wire::CheckLine> =
        lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last(), Some(&wire::CheckLine::Done));
    assert!(lines.contains(&wire::CheckLine::Checked(7)));
}

#[tokio::test]
async fn without_the_token_nothing_is_told_but_health() {
    let mut rig = Rig::new(Some("s3cret")).await;
    rig.check("GET /v1/info", "", 200, "keyed").await;
    rig.check("GET /metrics", "", 200, "").await;
    for token in [None, Some("s3cre"), Some("s3crett"), Some("")] {
        rig.token = token;
        rig.check("GET /healthz", "", 200, "ok").await;
        for request in ["GET /v1/info", "GET /metrics", "GET /v1/users", "POST /v1/check"] {
            rig.check(request, "", 401, "authentication-failed").await;
        }
        rig.check("POST /v1/messages?user=a&mailbox=b", "x", 401, "").await;
    }
}

#[tokio::test]
async fn without_a_token_web_pages_are_kept_out() {
    let rig = Rig::new(None).await;
    for (header, status) in [
        ("Host: 127.0.0.1:1080", 200),
        ("Host: [::1]:1080", 200),
        ("Host: localhost", 200),
        ("Host: evil.example", 403),
        ("Host: 127.0.0.1.evil.example", 403),
        ("Host: localhost\r\nOrigin: http://evil.example", 403),
        ("X: y", 403),
    ] {
        let request = format!("GET /v1/info HTTP/1.0\r\n{header}\r\n\r\n");
        assert_eq!(rig.raw(request.as_bytes()).await.0, status, "{header}");
    }
    let memory: Arc<Memory> = Arc::default();
    let admin = Admin {
        operations: memory,
        stores: Arc::new(NoStores),
        metrics: PrometheusBuilder::new().build_recorder().handle(),
        info: Arc::new(|| serde_json::Value::Null),
        token: None,
        max_message_octets: 1,
    };
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    assert!(admin::open(&Front::new(), everywhere, admin).await.is_err());
}

#[tokio::test]
async fn rubbish_is_refused_and_harms_nobody() {
    let rig = Rig::new(None).await;
    rig.check("GET /nowhere", "", 404, "").await;
    rig.check("PATCH /v1/users", "", 405, "").await;
    rig.check("POST /v1/stores/deploy?store=keyed&probation_s=60", "abc", 200, "\"number\":3")
        .await;
    rig.check("POST /v1/stores/deploy?store=keyed", "abc", 400, "").await;
    rig.check("POST /v1/stores/deploy?store=keyed&probation_s=99999999", "", 400, "probation")
        .await;
    rig.check("GET /v1/stores/logs?store=keyed", "", 200, "\"last\":0").await;
    rig.check("GET /v1/stores/logs?store=keyed&after=7", "", 200, "\"last\":7").await;
    rig.check("GET /v1/stores/logs?store=keyed&after=x", "", 400, "").await;
    rig.check("POST /v1/stores/commit?store=keyed", "", 403, "no store here").await;
    rig.check("POST /v1/stores/commit?shop=keyed", "", 400, "").await;
    rig.check("POST /v1/users", "rubbish", 400, "").await;
    rig.check("POST /v1/users", r#"{"name":"x","admin":true}"#, 422, "unknown field").await;
    rig.check("GET /v1/users?limit=-1", "", 400, "").await;
    rig.check("GET /v1/users?frobnicate=1", "", 400, "").await;
    rig.check("POST /v1/users", &format!(r#"{{"name":"{}"}}"#, "x".repeat(100_000)), 413, "").await;
    assert_eq!(rig.raw(b"rubbish\r\n\r\n").await.0, 400);
    rig.check("GET /healthz", "", 200, "ok").await;
    assert!(rig.front.stop(PATIENCE).await);
}
