//! Suite `schema`: a version of the store takes over that writes rows in another schema. First it goes back
//! on probation, then it stays. How long the sweep over a large mailbox takes that follows, and what clients
//! notice of it all, in that mailbox and in another account.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use postroom_contract::component;
use postroom_system::{Node, node::postroom, scratch};
use serde_json::Value;

use crate::client::Client;
use crate::mail;
use crate::open::{USER, import};
use crate::report::{Cell, Samples, Table, progress};
use crate::rounds::Pace;
use crate::servers::PASSWORD;

const SUITE: &str = "schema";
/// The store of `postroom dev`.
const STORE: &str = "keyed";
/// Another account.
const OTHER: &str = "other";
/// How often it is looked whether the sweep has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// By when what is waited for must have come: a sweep of a large mailbox takes minutes.
const LONGEST: Duration = Duration::from_secs(1800);
/// What clients do, and on whose mailbox.
const WORK: [(&str, &str); 4] = [
    (USER, "STORE of one message"),
    (USER, "FETCH of one message"),
    (USER, "APPEND of 4 KiB"),
    (OTHER, "APPEND of 4 KiB"),
];

/// Milliseconds of each kind of [`WORK`].
type Times = [Samples; WORK.len()];

/// All of the suite.
pub fn run(pace: Pace, messages: u64) -> anyhow::Result<Vec<Table>> {
    let folder = scratch();
    let version = component("keyed2");
    let node = Node::start(&folder.path().join("postroom"));
    import(&node, folder.path(), messages)?;
    let time = pace.time * pace.rounds as u32;
    progress(format_args!("clients without a sweep, {} s", time.as_secs_f64()));
    let pause = || {
        std::thread::sleep(time);
        Ok(())
    };
    let (before, ()) = under_load(&node, messages, pause)?;
    let file = version.to_str().context("a plain path")?;
    let admin = node.admin.to_string();
    let asked = |args: &[&str]| {
        let output = postroom(&[args, &["--admin", &admin]].concat());
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        anyhow::Ok(())
    };
    let deploy = ["store", "deploy", file, "--to", STORE, "--yes", "--probation"];
    progress(format_args!("on probation, and back, {} s", time.as_secs_f64()));
    let there_and_back = || {
        asked(&[&deploy[..], &["1h"]].concat())?;
        seen(&admin, |status| status["nodes"][0]["progress"] == "serving")?;
        std::thread::sleep(time);
        let began = Instant::now();
        asked(&["store", "rollback", STORE])?;
        let old = |status: &Value| status["permanent"]["digest"].clone();
        seen(&admin, |status| {
            let serving = &status["generations"][0];
            status["under_way"].is_null() && serving["version"]["digest"] == old(status)
        })?;
        let took = began.elapsed();
        let status = seen(&admin, |_| true)?;
        let only = status["rows"]["first"] == 1 && status["rows"]["last"] == 1;
        ensure!(only, "rows were written in another schema on probation: {}", status["rows"]);
        Ok(took)
    };
    let (probation, back) = under_load(&node, messages, there_and_back)?;
    asked(&[&deploy[..], &["0", "--watch"]].concat())?;
    let (during, swept) = under_load(&node, messages, || swept(&admin))?;
    let (after, ()) = under_load(&node, messages, pause)?;
    ensure!(node.stop() == Some(0), "a clean stop");
    let title = format!("Rows of {messages} messages come to another schema");
    let heads = [
        "one client each, all at once",
        "before p50",
        "p99",
        "on probation p50",
        "p99",
        "longest",
        "in the sweep p50",
        "p99",
        "longest",
        "after p50",
        "p99",
        "samples in the sweep",
    ];
    let mut table = Table::new(SUITE, title, &heads);
    for (at, (user, what)) in WORK.iter().enumerate() {
        let of = |times: &Times, share| {
            Cell::figure(times[at].quantile(share).unwrap_or_default(), "ms")
        };
        let whose = if *user == USER { "the large mailbox" } else { "another account" };
        table.row(vec![
            Cell::text(format!("{what}, {whose}")),
            of(&before, 0.5),
            of(&before, 0.99),
            of(&probation, 0.5),
            of(&probation, 0.99),
            of(&probation, 1.0),
            of(&during, 0.5),
            of(&during, 0.99),
            of(&during, 1.0),
            of(&after, 0.5),
            of(&after, 0.99),
            Cell::text(during[at].0.len().to_string()),
        ]);
    }
    table.note(format!(
        "the way back on probation: {:.2} s from the command until the old version served again under these clients; all rows still had the old schema",
        back.as_secs_f64()
    ));
    table.note(format!(
        "the sweep: {:.1} s under these clients, {} rows written anew, {:.0} rows a second; a message has two rows",
        swept.seconds,
        swept.rewritten,
        swept.rewritten as f64 / swept.seconds.max(0.001)
    ));
    Ok(vec![table])
}

/// What the sweep came to.
struct Swept {
    seconds: f64,
    rewritten: u64,
}

/// How the store is, as soon as this is so.
fn seen(admin: &str, mut is_so: impl FnMut(&Value) -> bool) -> anyhow::Result<Value> {
    let began = Instant::now();
    loop {
        let output = postroom(&["--json", "store", "status", STORE, "--admin", admin]);
        let status: Value = serde_json::from_slice(&output.stdout).context("a status")?;
        if is_so(&status[0]) {
            return Ok(status[0].clone());
        }
        ensure!(began.elapsed() < LONGEST, "it did not come to that: {}", status[0]);
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits for the end of the sweep.
fn swept(admin: &str) -> anyhow::Result<Swept> {
    let (began, mut rewritten) = (Instant::now(), 0);
    let status = seen(admin, |status| {
        let (rows, sweep) = (&status["rows"], &status["sweep"]);
        rewritten = sweep["rewritten"].as_u64().unwrap_or(rewritten);
        let failed = sweep["failures"].as_u64().unwrap_or(0) > 0;
        failed || rows["first"] == 2 && rows["last"] == 2
    })?;
    let failed = status["sweep"]["failures"].as_u64().unwrap_or(0);
    ensure!(failed == 0, "the sweep fails: {}", status["sweep"]);
    Ok(Swept { seconds: began.elapsed().as_secs_f64(), rewritten })
}

/// Does something while clients work; how long their commands took.
fn under_load<T>(
    node: &Node,
    messages: u64,
    what: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(Times, T)> {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let works = |at| works(node.imap, at, messages, &end);
        let clients: [_; WORK.len()] = std::array::from_fn(|at| scope.spawn(move || works(at)));
        let done = what();
        end.store(true, Ordering::Relaxed);
        let mut times = Times::default();
        for (times, client) in times.iter_mut().zip(clients) {
            *times = client.join().expect("it does not panic")?;
        }
        Ok((times, done?))
    })
}

fn works(imap: SocketAddr, at: usize, messages: u64, end: &AtomicBool) -> anyhow::Result<Samples> {
    let mut client = Client::log_in(imap, WORK[at].0, PASSWORD)?;
    client.command("SELECT INBOX")?;
    let mut times = Samples::default();
    for number in 0.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        // All over the mailbox, in no order.
        let uid = 1 + number * 7_919 % messages;
        let began = Instant::now();
        match at {
            0 => drop(client.command(&format!("UID STORE {uid} +FLAGS.SILENT (\\Flagged)"))?),
            1 => drop(client.command(&format!("UID FETCH {uid} (FLAGS BODY.PEEK[])"))?),
            _ => client.append("INBOX", &mail::message(number))?,
        }
        times.0.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}
