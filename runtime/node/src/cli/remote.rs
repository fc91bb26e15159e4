//! An operator's commands on a running node, through its admin API.

use std::io::{BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use postroom_core::archive::ArchivedMessage;
use postroom_core::types::MailboxName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Method;
use ureq::{Agent, Body, SendBody};

use super::args::NodeDoor;
use super::operator::{CheckLine, Exported, Operator};
use crate::front::admin::backup;
use crate::front::admin::frames::{Framed, Head, Line, MEDIA_TYPE, Reader};
use crate::front::admin::wire::{
    self, Domain, Failure, Imported, Mailbox, NewPassword, NewUser, Page, User,
};
use crate::storage::keeping::BackupPiece;

/// Longest wait for a connection: the node is on this machine or near.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for an answer that says how the node is: a node that is halted keeps its connections.
const STATUS_TIME: Duration = Duration::from_secs(30);
/// Longest line of a check's answer, in octets.
const MAX_LINE_OCTETS: usize = 64 << 10;
/// Largest message that an export takes, in octets: more than any node stores.
const MAX_MESSAGE_OCTETS: u64 = 1 << 30;
/// Octets that are read at a time.
const PIECE_OCTETS: usize = 64 << 10;

/// How long a node that is followed may give no answer: one starts anew in it.
const SILENCE: Duration = Duration::from_secs(60);

/// Since when a node that is followed has given no answer.
#[derive(Default)]
pub struct Silence(Option<Instant>);

impl Silence {
    /// It has answered.
    pub fn ends(&mut self) {
        self.0 = None;
    }

    /// It has not; whether it may yet.
    pub fn is_bearable(&mut self) -> bool {
        self.0.get_or_insert_with(Instant::now).elapsed() < SILENCE
    }
}

/// A running node.
pub struct Remote {
    agent: Agent,
    /// Gives up after [`STATUS_TIME`].
    asking: Agent,
    address: SocketAddr,
    token: Option<String>,
}

impl Remote {
    /// The node at this admin address, with the token in a file where it wants one.
    pub fn new(address: SocketAddr, token_file: Option<&Path>) -> Result<Self> {
        let token = token_file
            .map(|file| {
                let text = std::fs::read_to_string(file);
                text.with_context(|| format!("cannot read the admin token {}", file.display()))
            })
            .transpose()?
            .map(|text| text.trim().to_owned());
        let config =
            || Agent::config_builder().http_status_as_error(false).timeout_connect(Some(CONNECT));
        let agent = config().build().new_agent();
        let asking = config().timeout_global(Some(STATUS_TIME)).build().new_agent();
        Ok(Self { agent, asking, address, token })
    }

    /// The node that a command names.
    pub fn of(door: &NodeDoor) -> Result<Self> {
        Self::new(door.admin, door.token_file.as_deref())
    }

    /// Asks how something is.
    pub fn get<A: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<A> {
        let media = "application/json";
        answered(self.send_by(&self.asking, Method::GET, path, query, media, Vec::new())?)
    }

    /// Has something done.
    pub fn post<A: DeserializeOwned>(&self, path: &str) -> Result<A> {
        self.json(Method::POST, path, &[], &())
    }

    /// Has something done to what the query names.
    pub fn post_to<A: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<A> {
        self.json(Method::POST, path, query, &())
    }

    /// Sends a file.
    pub fn post_octets<A: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        octets: Vec<u8>,
    ) -> Result<A> {
        let media = "application/octet-stream";
        answered(self.send(Method::POST, path, query, media, octets)?)
    }

    /// Sends a request, however long its answer may take; what comes back is the answer, or why there is none.
    fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        media: &str,
        body: Vec<u8>,
    ) -> Result<Body> {
        self.send_by(&self.agent, method, path, query, media, body)
    }

    fn send_by(
        &self,
        agent: &Agent,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        media: &str,
        body: Vec<u8>,
    ) -> Result<Body> {
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let url = format!("http://{}{path}?{}", self.address, query.join("&"));
        let mut request =
            ureq::http::Request::builder().method(method).uri(url).header("content-type", media);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        // No body where there is nothing to say: a node need not read one before it answers.
        let body = match body.is_empty() {
            true => SendBody::none(),
            false => SendBody::from_owned_reader(std::io::Cursor::new(body)),
        };
        let request = request.body(body).context("the request")?;
        let response = agent.run(request).map_err(|error| {
            anyhow!(
                "no node answers at {} ({error}); is it running, and is this its admin address?",
                self.address
            )
        })?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status();
        if status == 401 {
            bail!(
                "the node wants its admin token: --token-file FILE (admin-token in its data folder)"
            );
        }
        let text = response.into_body().read_to_string().unwrap_or_default();
        match serde_json::from_str::<Failure>(&text) {
            Ok(failure) => bail!("{}", failure.error),
            Err(_) => bail!("the node answered {status}: {}", text.lines().next().unwrap_or("")),
        }
    }

    fn json<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: &impl Serialize,
    ) -> Result<A> {
        let body = match serde_json::to_value(body).context("the request")? {
            serde_json::Value::Null => Vec::new(),
            value => value.to_string().into_bytes(),
        };
        answered(self.send(method, path, query, "application/json", body)?)
    }

    /// All pages of a list.
    fn list<R: DeserializeOwned>(&self, path: &str, name: impl Fn(&R) -> String) -> Result<Vec<R>> {
        let mut rows: Vec<R> = Vec::new();
        loop {
            let after = rows.last().map(&name);
            let query: Vec<_> = after.iter().map(|after| ("after", after.as_str())).collect();
            let page: Page<R> = self.json(Method::GET, path, &query, &())?;
            let more = page.more && !page.rows.is_empty();
            rows.extend(page.rows);
            if !more {
                return Ok(rows);
            }
        }
    }
}

/// An answer in JSON.
fn answered<A: DeserializeOwned>(mut answer: Body) -> Result<A> {
    let text = answer.read_to_string().context("the node's answer")?;
    // Nothing to say is `null` in JSON.
    let text = if text.is_empty() { "null" } else { &text };
    serde_json::from_str(text).context("the node's answer is not what this version expects")
}

/// A value in a URL's query (RFC 3986 §2.1).
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for octet in value.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(octet));
            }
            _ => text.push_str(&format!("%{octet:02X}")),
        }
    }
    text
}

impl Operator for Remote {
    fn users(&mut self) -> Result<Vec<User>> {
        self.list("/v1/users", |user: &User| user.name.clone())
    }

    fn add_user(&mut self, user: NewUser) -> Result<User> {
        self.json(Method::POST, "/v1/users", &[], &user)
    }

    fn set_password(&mut self, user: &str, password: &str) -> Result<()> {
        let password = NewPassword { password: password.to_owned() };
        self.json(Method::PUT, "/v1/users", &[("name", user)], &password)
    }

    fn remove_user(&mut self, user: &str) -> Result<()> {
        self.json(Method::DELETE, "/v1/users", &[("name", user)], &())
    }

    fn domains(&mut self) -> Result<Vec<Domain>> {
        self.list("/v1/domains", |domain: &Domain| domain.name.clone())
    }

    fn add_domain(&mut self, name: &str, alias_of: Option<&str>) -> Result<Domain> {
        let domain = Domain { name: name.to_owned(), alias_of: alias_of.map(str::to_owned) };
        self.json(Method::POST, "/v1/domains", &[], &domain)
    }

    fn remove_domain(&mut self, name: &str) -> Result<()> {
        self.json(Method::DELETE, "/v1/domains", &[("name", name)], &())
    }

    fn mailboxes(&mut self, user: &str) -> Result<Vec<Mailbox>> {
        let page: Page<Mailbox> =
            self.json(Method::GET, "/v1/mailboxes", &[("user", user)], &())?;
        Ok(page.rows)
    }

    fn ensure_mailbox(&mut self, user: &str, mailbox: &MailboxName) -> Result<()> {
        let place = [("user", user), ("mailbox", mailbox.as_str())];
        self.json(Method::PUT, "/v1/mailboxes", &place, &())
    }

    fn import(
        &mut self,
        user: &str,
        mailbox: &MailboxName,
        messages: Vec<ArchivedMessage>,
    ) -> Result<()> {
        let (mut body, count) = (Vec::new(), messages.len());
        for message in messages {
            let head = Head::new(message.octets.len(), message.date, &message.flags);
            body.extend_from_slice(&Line::Message(head).to_bytes());
            body.extend_from_slice(&message.octets);
        }
        body.extend_from_slice(&Line::End(()).to_bytes());
        let place = [("user", user), ("mailbox", mailbox.as_str())];
        let mut answer = self.send(Method::POST, "/v1/messages", &place, MEDIA_TYPE, body)?;
        let text = answer.read_to_string().context("the node's answer")?;
        let imported: Imported = serde_json::from_str(&text).context("the node's answer")?;
        match imported.uids.len() == count {
            true => Ok(()),
            false => bail!("the node took {} of {count} messages", imported.uids.len()),
        }
    }

    fn export(
        &mut self,
        user: &str,
        mailbox: &MailboxName,
        take: &mut dyn FnMut(Exported) -> Result<()>,
    ) -> Result<()> {
        let place = [("user", user), ("mailbox", mailbox.as_str())];
        let answer = self.send(Method::GET, "/v1/messages", &place, MEDIA_TYPE, Vec::new())?;
        let mut stream = answer.into_reader();
        let mut reader = Reader::new(MAX_MESSAGE_OCTETS);
        let mut piece = vec![0; PIECE_OCTETS];
        loop {
            while let Some(framed) = reader.take().context("the node's answer")? {
                take(match framed {
                    Framed::Message(head, octets) => Exported::Message(ArchivedMessage {
                        octets: octets.to_vec(),
                        date: head.date,
                        flags: head.flags(),
                    }),
                    Framed::Line(Line::Total(total)) => Exported::Total(total),
                    Framed::Line(Line::Damaged(what)) => Exported::Damaged(what),
                    Framed::Line(Line::Failed(failure)) => bail!("{}", failure.error),
                    Framed::Line(Line::End(())) => return Ok(()),
                    // The reader hands these out as messages.
                    Framed::Line(Line::Message(_)) => bail!("the node's answer is out of order"),
                })?;
            }
            match stream.read(&mut piece).context("the node's answer")? {
                0 => bail!("the node's answer was cut off; is the node still running?"),
                read => reader.push(&piece[..read]),
            }
        }
    }

    fn check(&mut self, repair: bool, take: &mut dyn FnMut(CheckLine)) -> Result<()> {
        let query: &[(&str, &str)] = if repair { &[("repair", "true")] } else { &[] };
        self.told("/v1/check", query, take)
    }

    fn scrub(&mut self, take: &mut dyn FnMut(CheckLine)) -> Result<()> {
        self.told("/v1/scrub", &[], take)
    }

    fn backup(&mut self, take: &mut dyn FnMut(BackupPiece) -> Result<()>) -> Result<()> {
        let answer = self.send(Method::GET, "/v1/backup", &[], "application/json", Vec::new())?;
        let mut stream = BufReader::with_capacity(PIECE_OCTETS, answer.into_reader());
        loop {
            let piece = backup::read(&mut stream)?;
            let done = piece == BackupPiece::Done;
            take(piece)?;
            if done {
                return Ok(());
            }
        }
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Remote {
    /// Has work done that tells of findings as it goes.
    fn told(
        &self,
        path: &str,
        query: &[(&str, &str)],
        take: &mut dyn FnMut(CheckLine),
    ) -> Result<()> {
        let answer = self.send(Method::POST, path, query, "application/json", Vec::new())?;
        let mut stream = answer.into_reader();
        let (mut text, mut piece) = (Vec::new(), vec![0; PIECE_OCTETS]);
        loop {
            while let Some(end) = text.iter().position(|&octet| octet == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                match serde_json::from_slice(&line).context("the node's answer")? {
                    wire::CheckLine::Checked(more) => take(CheckLine::Checked(more)),
                    wire::CheckLine::Finding(found) => take(CheckLine::Finding(found)),
                    wire::CheckLine::LeftOut(count) => take(CheckLine::LeftOut(count)),
                    wire::CheckLine::Done => return Ok(()),
                    wire::CheckLine::Failed(failure) => bail!("{}", failure.error),
                }
            }
            if text.len() > MAX_LINE_OCTETS {
                bail!("the node's answer has a line of more than {MAX_LINE_OCTETS} octets");
            }
            match stream.read(&mut piece).context("the node's answer")? {
                0 => bail!("the node's answer was cut off; is the node still running?"),
                read => text.extend_from_slice(&piece[..read]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reaches_the_node_as_it_is() {
        assert_eq!(escaped("ä+b@x.org/ &"), "%C3%A4%2Bb%40x.org%2F%20%26");
    }
}
