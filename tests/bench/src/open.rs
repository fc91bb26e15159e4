//! Suite `open`: a large mailbox is made active, after a restart and while it is open, and what its
//! index takes of memory.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use postroom_core::mailbox::{Facts, Index};
use postroom_core::types::{MessageId, ModSeq, ThreadId, Timestamp, Uid};
use postroom_system::{Node, node::postroom, scratch};

use crate::client::Client;
use crate::machine;
use crate::report::{Cell, Goal, Samples, Table, progress};
use crate::rounds::Pace;
use crate::servers::PASSWORD;

const SUITE: &str = "open";
/// Whose mailbox is large.
pub const USER: &str = "large";
/// Parts that the mailbox is filled in, so that one sees it go on.
const PARTS: u64 = 10;
/// Small mailboxes of the same account: more than the node keeps open that nobody has selected, so
/// that selecting them all closes the large one.
const SMALL_MAILBOXES: usize = 6;
/// Messages in all indexes that are made to measure one.
const MEASURED_MESSAGES: u64 = 500_000;

/// What one start of the node showed: times in milliseconds, memory in KiB.
struct Opened {
    cold: f64,
    warm: f64,
    /// After it was closed, its pages of storage in the engine's cache.
    again: f64,
    /// What the first opening added.
    grown: f64,
}

fn log_in(node: &Node) -> anyhow::Result<Client> {
    Client::log_in(node.imap, USER, PASSWORD)
}

fn fill(data: &Path, folder: &Path, messages: u64) -> anyhow::Result<()> {
    let node = Node::start(data);
    import(&node, folder, messages)?;
    let mut client = log_in(&node)?;
    for number in 0..SMALL_MAILBOXES {
        client.command(&format!("CREATE Small{number}"))?;
        client.append(&format!("Small{number}"), b"Subject: small\r\n\r\n\r\n")?;
    }
    ensure!(node.stop() == Some(0), "a clean stop");
    Ok(())
}

/// Fills the INBOX of [`USER`].
pub fn import(node: &Node, folder: &Path, messages: u64) -> anyhow::Result<()> {
    let (admin, archive) = (node.admin.to_string(), folder.join("part.mbox"));
    let file = archive.to_str().context("the temporary folder is UTF-8")?;
    let start = Instant::now();
    let part = messages.div_ceil(PARTS).max(1);
    for first in (0..messages).step_by(part as usize) {
        let upto = messages.min(first + part);
        write_archive(&archive, first..upto)?;
        let output = postroom(&["import", file, "--user", USER, "--admin", &admin]);
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seconds = start.elapsed().as_secs_f64();
        progress(format_args!("{upto} of {messages} messages are in after {seconds:.1} s"));
    }
    Ok(())
}

fn write_archive(path: &Path, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    for number in numbers {
        write!(
            out,
            "From a@example.org Thu Jan  1 00:00:01 2026\r\nFrom: a@example.org\r\n\
             Subject: {number}\r\nMessage-ID: <{number}@example.org>\r\n\r\nshort\r\n\r\n"
        )?;
    }
    Ok(out.flush()?)
}

/// Selects a mailbox; how long that took, in milliseconds.
fn select(client: &mut Client, mailbox: &str) -> anyhow::Result<f64> {
    let start = Instant::now();
    client.command(&format!("SELECT {mailbox}"))?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn open(data: &Path) -> anyhow::Result<Opened> {
    let node = Node::start(data);
    let mut client = log_in(&node)?;
    let fresh = machine::pss(node.pid())?;
    let cold = select(&mut client, "INBOX")?;
    let grown = machine::pss(node.pid())? - fresh;
    let warm = select(&mut client, "INBOX")?;
    for number in 0..SMALL_MAILBOXES {
        select(&mut client, &format!("Small{number}"))?;
    }
    let again = select(&mut client, "INBOX")?;
    ensure!(node.stop() == Some(0), "a clean stop");
    Ok(Opened { cold, warm, again, grown })
}

/// What the index takes of a process, in octets a message: made in this one, where nothing else is
/// allocated meanwhile, as often as makes it large beside what the process has anyway.
fn index(messages: u64) -> anyhow::Result<f64> {
    let (own, copies) = (std::process::id(), MEASURED_MESSAGES.div_ceil(messages));
    let make = || (0..copies).map(|_| one_index(messages)).collect::<anyhow::Result<Vec<_>>>();
    // The first ones take what the allocator has kept of the suites before: it must not be theirs
    // that are measured.
    let first = make()?;
    let before = machine::pss(own)?;
    let second = make()?;
    let grown = machine::pss(own)? - before;
    // They live until here, whatever the compiler thinks of them.
    std::hint::black_box((&first, &second));
    Ok(grown * 1024.0 / (messages * copies) as f64)
}

fn one_index(messages: u64) -> anyhow::Result<Index> {
    let mut index = Index::default();
    for number in 1..=messages {
        index.push(&Facts {
            uid: Uid::new(u32::try_from(number)?).context("numbers begin with one")?,
            modseq: ModSeq(number),
            system: 0,
            keywords: 0,
            internal_date: Timestamp::utc(number as i64),
            save_date: number as i64,
            size: number,
            message_id: MessageId::from_u128(number.into()),
            thread_id: ThreadId::from_u128(number.into()),
        })?;
    }
    Ok(index)
}

/// All of the suite.
pub fn run(pace: Pace, messages: u64) -> anyhow::Result<Vec<Table>> {
    let folder = scratch();
    let data = folder.path().join("postroom");
    fill(&data, folder.path(), messages)?;
    let mut opened = pace.interleave("open", &mut [()], |()| open(&data))?;
    let opened = opened.pop().unwrap_or_default();
    let samples = |of: &dyn Fn(&Opened) -> f64| opened.iter().map(of).collect::<Samples>();
    let each = 1024.0 / messages as f64;
    let title = format!("Opening a mailbox of {messages} messages");
    let mut table = Table::new(SUITE, title, &["what", "figure", "goal"]);
    let rows: [(&str, Samples, &'static str, Option<f64>); 5] = [
        ("first SELECT after a restart", samples(&|o| o.cold), "ms", Some(100.0)),
        ("SELECT while it is open", samples(&|o| o.warm), "ms", None),
        ("SELECT after it was closed", samples(&|o| o.again), "ms", None),
        ("index, a message", Samples::one(index(messages)?), "octets", Some(64.0)),
        ("growth of the node, a message", samples(&|o| o.grown * each), "octets", None),
    ];
    for (what, figures, unit, most) in rows {
        let goal = most.map(|most| Goal::AtMost(most, unit));
        let goal = Cell::goal(goal, &figures);
        table.row(vec![Cell::text(what), Cell::Figure(figures, unit), goal]);
    }
    table.note("after a restart of the node, not of the machine: the system has the files in memory; the first SELECT also claims the account's slot (one commit)");
    table.note("index: made apart, in the measuring process, so that nothing else grows; growth of the node: by the first SELECT, with pages in the engine's cache, the store instance's memory and the session's view");
    Ok(vec![table])
}
