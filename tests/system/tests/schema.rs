//! A version of the store's component takes over whose rows have another schema.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postroom_system::cluster::PASSWORD;
use postroom_system::components::component;
use postroom_system::eventually::{PATIENCE, within};
use postroom_system::imap::ok;
use postroom_system::store_cluster::{Load, STORE, StoreCluster, USERS, tables};
use postroom_system::{ImapClient, eventually, scratch};
use serde_json::Value;

/// A user whose mail nobody changes while the rest goes on.
const QUIET: &str = "quiet";

/// One cluster under load at a time: two cores do not serve two, each with a database.
static ONE: Mutex<()> = Mutex::new(());

/// Three nodes with the users of a load.
fn start() -> (MutexGuard<'static, ()>, StoreCluster) {
    // Who failed holding it has nothing to do with who comes next.
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = StoreCluster::start(scratch(), 3, &tables(&component("keyed")));
    for user in USERS {
        bench.cluster.add_user(user).expect("a user can be made");
    }
    (one, bench)
}

/// Gives the quiet user some mail, with flags and removals.
fn mail(bench: &StoreCluster) {
    bench.cluster.add_user(QUIET).expect("a user can be made");
    let mut client = client(bench, 0);
    ok(&mut client, "CREATE Other");
    for number in 0..40 {
        let body =
            format!("Subject: {number}\r\nFrom: <a{number}@example.org>\r\n\r\n{number}\r\n");
        for mailbox in ["INBOX", "Other"] {
            let answer = client.append(mailbox, "(\\Flagged a) ", body.as_bytes());
            assert!(answer.expect("the connection holds").is_ok());
        }
    }
    ok(&mut client, "SELECT INBOX");
    ok(&mut client, "UID STORE 2:9 +FLAGS (\\Seen b)");
    ok(&mut client, "UID STORE 5:7 +FLAGS (\\Deleted)");
    ok(&mut client, "EXPUNGE");
}

fn client(bench: &StoreCluster, node: usize) -> ImapClient {
    let address = bench.cluster.nodes[node].imap;
    eventually("the user can log in", || ImapClient::log_in(address, QUIET, PASSWORD).ok())
}

/// All that a client sees of the quiet user's mail.
fn seen(bench: &StoreCluster, node: usize) -> Vec<String> {
    let mut client = client(bench, node);
    let mut lines = Vec::new();
    for mailbox in ["INBOX", "Other"] {
        lines.extend(ok(&mut client, &format!("EXAMINE {mailbox}")));
        let fetch =
            "UID FETCH 1:* (FLAGS INTERNALDATE MODSEQ EMAILID THREADID RFC822.SIZE BODY.PEEK[])";
        lines.extend(ok(&mut client, fetch));
    }
    lines
}

/// Reads every row of every account by what serves: damage is an error.
fn check(bench: &StoreCluster, node: usize) {
    let checked = bench.cluster.nodes[node].command(&["check"], "");
    checked.expect("nothing is damaged");
}

fn rows(status: &Value) -> [u64; 3] {
    ["first", "last", "writes"].map(|of| status["rows"][of].as_u64().expect("a number"))
}

/// Waits until all rows have a schema; how they came to it.
fn all_rows_have(bench: &StoreCluster, node: usize, schema: u64) -> Value {
    let ended = within(3 * PATIENCE, || {
        // It may not know while storage is away.
        let told = bench.cluster.nodes[node].command(&["store", "status", STORE], "");
        let status = told.ok()?.remove(0)[0].clone();
        (rows(&status) == [schema; 3]).then(|| status["sweep"].clone())
    });
    ended.unwrap_or_else(|| panic!("the sweep does not end: {}", bench.status(node)))
}

/// Records that a sweep by this node has looked at, while it goes on and as the second node says.
fn going(bench: &StoreCluster, by: &str) -> Option<u64> {
    let status = bench.status(1);
    let sweep = &status["sweep"];
    let records = sweep["records"].as_u64().filter(|records| *records > 0)?;
    (rows(&status) == [1, 2, 2] && sweep["node"] == by).then_some(records)
}

fn begin(bench: &StoreCluster, file: &Path, probation: &str) {
    let file = file.to_str().expect("a plain path");
    let args = ["store", "deploy", file, "--to", STORE, "--probation", probation];
    bench.first().command(&args, "").expect("it begins");
}

#[test]
fn p5_rows_come_to_another_schema_and_back_until_that_is_permanent() {
    let (_one, bench) = start();
    mail(&bench);
    let load = Load::on(&bench.cluster);
    load.goes_on(50);
    let (first, before) = (bench.serves(0), seen(&bench, 1));
    begin(&bench, &component("keyed2"), "1h");
    eventually("all serve it", || {
        let nodes = bench.status(1)["nodes"].clone();
        nodes.as_array()?.iter().all(|node| node["progress"] == "serving").then_some(())
    });
    load.goes_on(50);
    assert_eq!(rows(&bench.status(0)), [1, 1, 1]);
    assert_eq!(seen(&bench, 1), before);
    bench.first().command(&["store", "rollback", STORE], "").expect("it goes back");
    bench.all_serve(&first);
    // Whatever the second version has written, the first one reads it.
    check(&bench, 0);
    load.goes_on(50);
    bench.deploy(&component("keyed2"), &["--probation", "1s"]).expect("it becomes permanent");
    let swept = all_rows_have(&bench, 2, 2);
    assert!(swept["rewritten"].as_u64() > Some(150), "{swept}");
    assert_eq!(swept["failures"], 0);
    load.goes_on(50);
    check(&bench, 1);
    assert_eq!(seen(&bench, 2), before);
    load.check(&bench.cluster);
    let refused = bench.deploy(&component("keyed"), &[]).unwrap_err();
    assert!(refused.contains("those that are kept have schema 2"), "{refused}");
    let refused = bench.deploy(&component("keyed"), &["--no-rollback"]).unwrap_err();
    assert!(refused.contains("those that are kept have schema 2"), "{refused}");
}

#[test]
fn p5_a_sweep_goes_on_after_its_node_was_killed_and_storage_was_halted() {
    let (_one, mut bench) = start();
    mail(&bench);
    // Enough for some seconds.
    let archive = bench.folder.path().join("many.mbox");
    let message =
        "From a@example.org Thu Jan  1 00:00:01 2026\r\nSubject: many\r\n\r\nshort\r\n\r\n";
    std::fs::write(&archive, message.repeat(6_000)).expect("the folder is ours");
    for user in USERS {
        let import = ["import", archive.to_str().expect("a plain path"), "--user", user];
        bench.first().command(&import, "").expect("an import");
    }
    let before = seen(&bench, 1);
    begin(&bench, &component("keyed2"), "0");
    let at = eventually("a sweep has begun on the first node", || going(&bench, "a"));
    bench.cluster.nodes[0].kill();
    let on = eventually("another node goes on", || going(&bench, "b"));
    assert!(on >= at, "from where the first one was");
    bench.cluster.postgres.pause().expect("it runs");
    let status = ["store", "status", STORE];
    eventually("a node says that storage is away", || {
        bench.cluster.nodes[1].command(&status, "").err()
    });
    bench.cluster.postgres.resume().expect("it was halted");
    all_rows_have(&bench, 1, 2);
    bench.cluster.nodes[0].start().expect("it starts again");
    check(&bench, 0);
    assert_eq!(seen(&bench, 0), before);
    assert_eq!(seen(&bench, 2), before);
}
