//! Figures about the node as a process: memory of idle connections, opening a large mailbox.

use std::time::Instant;

use anyhow::{Context, ensure};
use postroom_system::{ImapClient, Node, scratch};

use crate::report::Table;

/// Proportional set size of a process, in KiB.
fn pss(pid: u32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss")?;
    line.split_ascii_whitespace().nth(1).context("no figure")?.parse().context("no number")
}

/// Memory of idle connections that are logged in and have INBOX selected.
pub fn idle(connections: usize) -> anyhow::Result<Table> {
    let folder = scratch();
    let node = Node::start(folder.path());
    let open = |number: usize| -> anyhow::Result<ImapClient> {
        let mut client = ImapClient::log_in(node.imap, &format!("idle{}", number % 50), "secret")?;
        ensure!(client.command("SELECT INBOX")?.is_ok(), "SELECT");
        Ok(client)
    };
    let mut clients = (0..50).map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let before = pss(node.pid())?;
    for number in 0..connections {
        clients.push(open(number)?);
    }
    let after = pss(node.pid())?;
    let each = (after.saturating_sub(before)) as f64 / connections as f64;
    let mut table =
        Table::new("Idle connections (logged in, INBOX selected)", &["figure", "value"]);
    table.row(vec!["connections".into(), connections.to_string()]);
    table.row(vec!["PSS before".into(), format!("{before} KiB")]);
    table.row(vec!["PSS after".into(), format!("{after} KiB")]);
    table.row(vec!["each".into(), format!("{each:.1} KiB")]);
    Ok(table)
}

/// Time from SELECT to its answer for a mailbox that is not open yet.
pub fn open(messages: u32) -> anyhow::Result<Table> {
    let folder = scratch();
    let node = Node::start(folder.path());
    let archive = folder.path().join("large.mbox");
    write_archive(&archive, messages)?;
    let admin = node.admin.to_string();
    let file = archive.to_str().context("the temporary folder is UTF-8")?;
    let import = ["import", file, "--user", "large", "--admin", admin.as_str()];
    let start = Instant::now();
    let output = postroom_system::node::postroom(&import);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let imported = start.elapsed();
    let before = pss(node.pid())?;
    ensure!(node.stop() == Some(0), "a clean stop");
    let node = Node::start(folder.path());
    let mut client = ImapClient::log_in(node.imap, "large", "secret")?;
    let fresh = pss(node.pid())?;
    let start = Instant::now();
    let answer = client.command("SELECT INBOX")?;
    let first = start.elapsed();
    ensure!(answer.lines().contains(&format!("* {messages} EXISTS")), "{answer:?}");
    let open = pss(node.pid())?;
    let start = Instant::now();
    client.command("SELECT INBOX")?;
    let again = start.elapsed();
    let title = format!("Opening a mailbox of {messages} messages");
    let mut table = Table::new(&title, &["figure", "value"]);
    table.row(vec!["import".into(), format!("{:.1} s", imported.as_secs_f64())]);
    table.row(vec![
        "first SELECT after a restart".into(),
        format!("{:.1} ms", first.as_secs_f64() * 1e3),
    ]);
    table.row(vec![
        "SELECT of the open mailbox".into(),
        format!("{:.1} ms", again.as_secs_f64() * 1e3),
    ]);
    let per_message = (open.saturating_sub(fresh)) as f64 * 1024.0 / f64::from(messages);
    table.row(vec!["memory a message".into(), format!("{per_message:.0} octets")]);
    table.row(vec!["PSS while importing".into(), format!("{before} KiB")]);
    Ok(table)
}

fn write_archive(path: &std::path::Path, messages: u32) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    for number in 0..messages {
        write!(
            out,
            "From a@example.org Thu Jan  1 00:00:01 2026\r\nFrom: a@example.org\r\nSubject: {number}\r\n\r\nshort\r\n\r\n"
        )?;
    }
    Ok(out.flush()?)
}
