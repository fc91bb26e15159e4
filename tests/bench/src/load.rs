//! The same load over the same sockets on both servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use postroom_system::{ImapClient, LmtpClient, Node, scratch};

use crate::dovecot::Dovecot;
use crate::raw;
use crate::report::{Table, rate, ratio};

/// Octets of the message that is written: design 8 measures with 4 KiB.
const MESSAGE_OCTETS: usize = 4096;
const USER: &str = "bench";
const PASSWORD: &str = "secret";

/// Where a server listens.
#[derive(Clone, Copy)]
struct Doors {
    imap: SocketAddr,
    lmtp: SocketAddr,
}

fn message() -> Vec<u8> {
    let head = "From: Bench <bench@example.org>\r\nTo: bench@example.org\r\nSubject: a letter about nothing\r\n\
                Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n";
    let line = "The quick brown fox jumps over the lazy dog, and then it does so again.\r\n";
    let mut text = head.to_owned();
    while text.len() + line.len() <= MESSAGE_OCTETS {
        text.push_str(line);
    }
    text.push_str(&"x".repeat(MESSAGE_OCTETS.saturating_sub(text.len() + 2)));
    text.push_str("\r\n");
    text.into_bytes()
}

/// Times a second that `connections` do their operation.
fn measure<C: Send + 'static>(
    connections: usize,
    time: Duration,
    connect: impl Fn(usize) -> anyhow::Result<C>,
    operation: impl Fn(&mut C) -> anyhow::Result<()> + Send + Sync + 'static,
) -> anyhow::Result<f64> {
    let clients = (0..connections).map(connect).collect::<anyhow::Result<Vec<C>>>()?;
    let operation = Arc::new(operation);
    let count = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let threads: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let (operation, count) = (operation.clone(), count.clone());
            std::thread::spawn(move || -> anyhow::Result<()> {
                while start.elapsed() < time {
                    operation(&mut client)?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    Ok(count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

/// Measures so many connections for so long.
type Work = fn(Doors, usize, Duration) -> anyhow::Result<f64>;

fn append(doors: Doors, connections: usize, time: Duration) -> anyhow::Result<f64> {
    let body = message();
    let connect = |number| {
        ImapClient::log_in(doors.imap, &format!("{USER}{number}"), PASSWORD).context("log in")
    };
    measure(connections, time, connect, move |client: &mut ImapClient| {
        let answer = client.append("INBOX", "", &body)?;
        ensure!(answer.is_ok(), "APPEND: {}", answer.tagged);
        Ok(())
    })
}

fn deliver(doors: Doors, connections: usize, time: Duration) -> anyhow::Result<f64> {
    let body = message();
    let connect =
        |number| Ok((LmtpClient::connect(doors.lmtp)?, format!("{USER}{number}@example.org")));
    measure(connections, time, connect, move |(client, user): &mut (LmtpClient, String)| {
        let replies = client.deliver(&[user.as_str()], &body)?;
        ensure!(replies[0].starts_with("250"), "LMTP: {}", replies[0]);
        Ok(())
    })
}

/// APPEND and LMTP at 1, 16 and 64 connections.
pub fn write(time: Duration, with_dovecot: bool) -> anyhow::Result<Table> {
    let folder = scratch();
    let node = Node::start(&folder.path().join("postroom"));
    let ours = Doors { imap: node.imap, lmtp: node.lmtp };
    let dovecot = if with_dovecot { Some(Dovecot::start(folder.path())?) } else { None };
    let theirs = dovecot.as_ref().map(|server| Doors { imap: server.imap, lmtp: server.lmtp });
    let heads = ["4 KiB messages, durable", "Postroom", "raw", "of raw", "Dovecot", "of Dovecot"];
    let mut table = Table::new("Writing", &heads);
    for connections in [1, 16, 64] {
        let raw = raw::appends(folder.path(), MESSAGE_OCTETS, connections, time)?;
        let works: [(&str, Work); 2] = [("APPEND", append), ("LMTP", deliver)];
        for (name, work) in works {
            let mine = work(ours, connections, time)?;
            let other = theirs.map(|doors| work(doors, connections, time)).transpose()?;
            let other = other.unwrap_or(0.0);
            let label = format!("{name}, {connections} connections");
            let (of_raw, of_other) = (ratio(mine, raw), ratio(mine, other));
            table.row(vec![label, rate(mine), rate(raw), of_raw, rate(other), of_other]);
        }
    }
    Ok(table)
}

/// An operation on the filled mailbox: its name and its commands, of which all must end OK.
struct Operation {
    name: &'static str,
    commands: &'static [&'static str],
}

const OPERATIONS: &[Operation] = &[
    Operation { name: "FETCH 1:* (FLAGS)", commands: &["FETCH 1:* (FLAGS)"] },
    Operation { name: "FETCH 1:* (ENVELOPE)", commands: &["FETCH 1:* (ENVELOPE)"] },
    Operation { name: "FETCH 1:* (BODY.PEEK[])", commands: &["FETCH 1:* (BODY.PEEK[])"] },
    Operation {
        name: "STORE 1:* ±FLAGS",
        commands: &["STORE 1:* +FLAGS.SILENT (\\Flagged)", "STORE 1:* -FLAGS.SILENT (\\Flagged)"],
    },
    Operation {
        name: "STORE of one message",
        commands: &["STORE 7 +FLAGS (\\Answered)", "STORE 7 -FLAGS (\\Answered)"],
    },
    Operation { name: "SEARCH SUBJECT", commands: &["SEARCH SUBJECT nothing-like-it"] },
    Operation { name: "SEARCH BODY", commands: &["SEARCH BODY nothing-like-it"] },
    Operation { name: "STATUS", commands: &["STATUS INBOX (MESSAGES UNSEEN UIDNEXT)"] },
    Operation { name: "COPY of 1,000", commands: &["COPY 1:1000 Copies"] },
    Operation { name: "NOOP", commands: &["NOOP"] },
];

fn fill(doors: Doors, user: &str, messages: u32) -> anyhow::Result<ImapClient> {
    let body = message();
    let threads: Vec<_> = (0..32)
        .map(|worker| {
            let (body, user) = (body.clone(), user.to_owned());
            std::thread::spawn(move || -> anyhow::Result<()> {
                let mut client = ImapClient::log_in(doors.imap, &user, PASSWORD)?;
                for _ in (worker..messages).step_by(32) {
                    let answer = client.append("INBOX", "", &body)?;
                    ensure!(answer.is_ok(), "APPEND: {}", answer.tagged);
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    let mut client = ImapClient::log_in(doors.imap, user, PASSWORD)?;
    client.command("CREATE Copies")?;
    ensure!(client.command("SELECT INBOX")?.is_ok(), "SELECT");
    Ok(client)
}

fn repeat(client: &mut ImapClient, operation: &Operation, time: Duration) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut count = 0;
    for command in operation.commands.iter().cycle() {
        let answer = client.command(command)?;
        ensure!(answer.is_ok(), "{command}: {}", answer.tagged);
        count += 1;
        if start.elapsed() >= time {
            break;
        }
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// One connection's work on a mailbox of many messages.
pub fn read(time: Duration, messages: u32, with_dovecot: bool) -> anyhow::Result<Table> {
    let folder = scratch();
    let node = Node::start(&folder.path().join("postroom"));
    let mut ours = fill(Doors { imap: node.imap, lmtp: node.lmtp }, USER, messages)?;
    let dovecot = if with_dovecot { Some(Dovecot::start(folder.path())?) } else { None };
    let mut theirs = dovecot
        .as_ref()
        .map(|server| fill(Doors { imap: server.imap, lmtp: server.lmtp }, USER, messages))
        .transpose()?;
    let title = format!("One connection, {messages} messages of 4 KiB");
    let mut table = Table::new(&title, &["operation", "Postroom", "Dovecot", "of Dovecot"]);
    for operation in OPERATIONS {
        let mine = repeat(&mut ours, operation, time)?;
        let other = theirs.as_mut().map(|c| repeat(c, operation, time)).transpose()?.unwrap_or(0.0);
        table.row(vec![operation.name.into(), rate(mine), rate(other), ratio(mine, other)]);
    }
    Ok(table)
}
