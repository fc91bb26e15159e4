//! Several real nodes over one PostgreSQL, as mail clients see them.

use std::collections::BTreeSet;
use std::time::Duration;

use postroom_system::cluster::{ClusterNode, LocalCluster, PASSWORD};
use postroom_system::eventually::within;
use postroom_system::imap::ok;
use postroom_system::{ImapClient, LmtpClient, eventually, scratch};

/// A cluster with a user, anna. It ends with the folder.
struct Bench {
    cluster: LocalCluster,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn start(nodes: usize) -> Self {
        Self::logging(nodes, "info")
    }

    fn logging(nodes: usize, log: &str) -> Self {
        let folder = scratch();
        let cluster = LocalCluster::start_logging(folder.path(), nodes, log);
        let cluster = cluster.expect("the cluster starts");
        cluster.add_user("anna").expect("a user can be made");
        let bench = Self { cluster, _folder: folder };
        // Each node has heard of all.
        for node in &bench.cluster.nodes {
            eventually("all nodes are heard", || (heard(node).len() == nodes).then_some(()));
        }
        bench
    }

    fn node(&self, name: &str) -> &ClusterNode {
        self.cluster.nodes.iter().find(|node| node.name == name).expect("there is such a node")
    }

    fn node_mut(&mut self, name: &str) -> &mut ClusterNode {
        let mut nodes = self.cluster.nodes.iter_mut();
        nodes.find(|node| node.name == name).expect("there is such a node")
    }

    fn client(&self, node: &str) -> ImapClient {
        let address = self.node(node).imap;
        // A user that was made on another node is seen here within seconds.
        eventually("anna can log in", || ImapClient::log_in(address, "anna", PASSWORD).ok())
    }

    fn selected(&self, node: &str) -> ImapClient {
        let mut client = self.client(node);
        ok(&mut client, "SELECT INBOX");
        client
    }

    /// Who has anna's mailboxes open, and under which epoch.
    fn owner(&self, asked: &str) -> (Option<String>, Option<u64>) {
        let place = self.node(asked).command(&["mailbox", "where", "--user", "anna"], "");
        let place = place.expect("a node says where").remove(0);
        (place["node"].as_str().map(str::to_owned), place["epoch"].as_u64())
    }
}

/// The nodes that one hears of, with their states.
fn heard(node: &ClusterNode) -> Vec<(String, String)> {
    let lines = node.command(&["cluster", "status"], "").expect("a node says what it hears");
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or("").to_owned();
    lines.iter().map(|line| (text(line, "node"), text(line, "state"))).collect()
}

/// Appends a message; its UID.
fn append(client: &mut ImapClient, text: &str) -> u32 {
    let body = format!("Subject: {text}\r\n\r\n{text}\r\n");
    let answer = client.append("INBOX", "", body.as_bytes()).expect("the connection holds");
    assert!(answer.is_ok(), "{}", answer.tagged);
    answer.code("APPENDUID").expect("a UID")[1].parse().expect("a number")
}

/// UIDs of all messages, once the client has been told of them.
fn uids(client: &mut ImapClient) -> Vec<u32> {
    ok(client, "NOOP");
    let lines = ok(client, "UID SEARCH ALL");
    let found = lines.iter().find_map(|line| line.strip_prefix("* SEARCH"));
    let numbers = found.unwrap_or("").split_whitespace();
    numbers.map(|number| number.parse().expect("a number")).collect()
}

fn exists(lines: &[String], count: usize) -> bool {
    lines.contains(&format!("* {count} EXISTS"))
}

#[test]
fn e2_e3_e4_one_mailbox_is_open_on_one_node_and_every_node_serves_it() {
    let bench = Bench::start(3);
    assert_eq!(bench.owner("a").0, None, "nobody has used it");
    let mut b = bench.selected("b");
    assert_eq!(bench.owner("a"), (Some("b".into()), Some(1)), "the local node opens it (E3)");
    let (mut a, mut c) = (bench.selected("a"), bench.selected("c"));
    assert_eq!(append(&mut a, "from a"), 1);
    assert!(exists(&ok(&mut b, "NOOP"), 1) && exists(&ok(&mut c, "NOOP"), 1));
    assert_eq!(append(&mut c, "from c"), 2);
    assert!(exists(&ok(&mut a, "NOOP"), 2) && exists(&ok(&mut b, "NOOP"), 2));
    ok(&mut c, "UID STORE 1 +FLAGS (\\Flagged)");
    let told = ok(&mut a, "NOOP").join("\n");
    assert!(told.contains("\\Flagged"), "{told}");
    let read = ok(&mut c, "UID FETCH 1 (BODY[])").join("\n");
    assert!(read.contains("from a"), "{read}");
    ok(&mut a, "UID STORE 1 +FLAGS (\\Deleted)");
    ok(&mut a, "EXPUNGE");
    for client in [&mut b, &mut c] {
        let told = ok(client, "NOOP");
        assert!(told.contains(&"* 1 EXPUNGE".to_owned()), "{told:?}");
    }
    // Whichever node is asked, one has it open, as it was (E4).
    for node in ["a", "b", "c"] {
        assert_eq!(bench.owner(node), (Some("b".into()), Some(1)));
    }
}

#[test]
fn e2_changes_of_mailboxes_are_whole_on_whichever_node_they_are_asked() {
    let bench = Bench::start(2);
    let (mut a, mut b) = (bench.selected("a"), bench.selected("b"));
    for n in 0..5 {
        append(&mut b, &format!("message {n}"));
    }
    ok(&mut b, "CREATE Work");
    ok(&mut b, "NOOP");
    let moved = b.command("UID MOVE 2:3 Work").unwrap();
    assert_eq!(moved.code("COPYUID").map(|code| code[1..].join(" ")), Some("2:3 1:2".into()));
    ok(&mut b, "UID COPY 4 Work");
    assert_eq!(uids(&mut a), [1, 4, 5]);
    ok(&mut b, "RENAME Work Done");
    ok(&mut a, "SELECT Done");
    assert_eq!(uids(&mut a), [1, 2, 3]);
}

#[test]
fn e2_who_idles_on_one_node_hears_of_a_delivery_on_another() {
    let bench = Bench::start(2);
    let mut idle = bench.selected("b");
    // Opened on a node where nobody idles, and on the one where somebody does.
    for (owner, door) in [("b", "a"), ("b", "b")] {
        assert_eq!(bench.owner(door).0.as_deref(), Some(owner));
        idle.send(b"i IDLE\r\n").unwrap();
        assert!(idle.response().unwrap().starts_with(b"+"));
        let mut mta = LmtpClient::connect(bench.node(door).lmtp).unwrap();
        let reply = mta.deliver(&["anna"], b"Subject: x\r\n\r\nx\r\n").unwrap();
        assert!(reply[0].starts_with("250"), "{reply:?}");
        let told = String::from_utf8(idle.response().unwrap()).unwrap();
        assert!(told.ends_with("EXISTS"), "{told}");
        idle.send(b"DONE\r\n").unwrap();
        assert!(idle.until("i").unwrap().is_ok());
    }
    // And the other way round: the owner has no session of its own.
    let mut far = bench.selected("a");
    far.send(b"i IDLE\r\n").unwrap();
    assert!(far.response().unwrap().starts_with(b"+"));
    append(&mut idle, "y");
    let told = String::from_utf8(far.response().unwrap()).unwrap();
    assert!(told.ends_with("EXISTS"), "{told}");
}

#[test]
fn e5_a_mailbox_stays_open_until_the_last_client_anywhere_leaves_it() {
    let bench = Bench::start(2);
    let mut a = bench.selected("a");
    let mut b = bench.selected("b");
    append(&mut a, "one");
    ok(&mut a, "LOGOUT");
    // Opened on a, active on b only: it is still there, and b is told.
    assert_eq!(bench.owner("b").0.as_deref(), Some("a"));
    assert!(exists(&ok(&mut b, "NOOP"), 1));
    append(&mut b, "two");
    assert_eq!(uids(&mut b), [1, 2]);
    assert_eq!(bench.owner("b"), (Some("a".into()), Some(1)));
}

#[test]
fn e6_e8_the_owner_is_killed_and_those_who_have_it_active_go_on() {
    let mut bench = Bench::start(3);
    let first = bench.selected("a");
    let (mut b, mut c) = (bench.selected("b"), bench.selected("c"));
    for n in 0..3 {
        append(&mut b, &format!("message {n}"));
    }
    ok(&mut c, "NOOP");
    assert_eq!(bench.owner("b").0.as_deref(), Some("a"));
    bench.node_mut("a").kill();
    drop(first);
    // The same connections, the mailbox still selected, the same UIDs.
    ok(&mut b, "UID STORE 2 +FLAGS (\\Deleted)");
    ok(&mut b, "EXPUNGE");
    let told = ok(&mut c, "NOOP");
    assert!(told.contains(&"* 2 EXPUNGE".to_owned()), "{told:?}");
    assert_eq!(append(&mut c, "after"), 4);
    assert_eq!(uids(&mut b), [1, 3, 4]);
    let (owner, epoch) = bench.owner("c");
    assert!(matches!(owner.as_deref(), Some("b" | "c")) && epoch > Some(1), "{owner:?} {epoch:?}");
    // The dead node is no longer heard (E8), and comes back (E7).
    eventually("the dead node is gone", || {
        (!heard(bench.node("b")).iter().any(|(node, _)| node == "a")).then_some(())
    });
    bench.node_mut("a").start().expect("it starts again");
    let mut again = bench.selected("a");
    assert_eq!(uids(&mut again), [1, 3, 4]);
}

#[test]
fn e6_a_node_drains_and_its_clients_stay_connected() {
    let bench = Bench::start(2);
    let mut a = bench.selected("a");
    append(&mut a, "before");
    assert_eq!(bench.owner("b").0.as_deref(), Some("a"));
    let done = bench.node("a").command(&["cluster", "drain"], "").unwrap();
    assert_eq!(done[0]["drained"], true);
    assert_eq!(append(&mut a, "after"), 2);
    assert_eq!(bench.owner("b").0.as_deref(), Some("b"), "the other node opens it for its client");
    assert_eq!(uids(&mut a), [1, 2]);
}

#[test]
fn an_owner_that_was_paused_past_a_take_over_commits_nothing_late() {
    let bench = Bench::start(2);
    let mut a = bench.selected("a");
    let mut b = bench.selected("b");
    append(&mut a, "before");
    bench.node("a").pause().unwrap();
    // On its way to the paused owner: it waits in its socket.
    a.send(b"late APPEND INBOX {20+}\r\nSubject: late\r\n\r\nx\r\n\r\n").unwrap();
    assert_eq!(append(&mut b, "meanwhile"), 2);
    assert_eq!(bench.owner("b").0.as_deref(), Some("b"));
    bench.node("a").resume().unwrap();
    let late = a.until("late").expect("the connection holds");
    assert!(late.is_ok(), "{}", late.tagged);
    let uid = late.code("APPENDUID").expect("a UID")[1].clone();
    assert_eq!(uid, "3", "it went to the new owner");
    ok(&mut b, "NOOP");
    assert_eq!(uids(&mut b), [1, 2, 3]);
    assert_eq!(uids(&mut a), [1, 2, 3]);
}

#[test]
fn e3_e5_what_nobody_has_open_any_more_is_opened_by_the_next_clients_own_node() {
    // An account stays in memory for a minute after its last client.
    const LET_GO: Duration = Duration::from_secs(150);
    let bench = Bench::start(2);
    let mut a = bench.selected("a");
    append(&mut a, "one");
    ok(&mut a, "LOGOUT");
    let let_go = || {
        let log = std::fs::read_to_string(bench.node("a").log()).expect("a node has a log");
        log.contains("the slot is let go").then_some(())
    };
    within(LET_GO, let_go).expect("the slot is let go");
    eventually("nobody has it open", || bench.owner("b").0.is_none().then_some(()));
    let mut b = bench.selected("b");
    assert_eq!(bench.owner("a"), (Some("b".into()), Some(2)));
    assert_eq!(uids(&mut b), [1]);
    assert_eq!(append(&mut b, "two"), 2);
}

/// The transactions named in those lines of a node's log that contain all of these words.
fn transactions(node: &ClusterNode, words: &[&str]) -> BTreeSet<String> {
    let log = std::fs::read_to_string(node.log()).expect("a node has a log");
    let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    let hexadecimal = |word: &&str| word.len() == 32 && word.chars().all(|c| c.is_ascii_hexdigit());
    let words = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()));
    words.filter(hexadecimal).map(str::to_owned).collect()
}

#[test]
fn e2_one_call_is_followed_from_one_nodes_log_to_the_others() {
    let bench = Bench::logging(2, "info,postroom_node=debug");
    let _owner = bench.selected("b");
    let mut far = bench.selected("a");
    assert_eq!(append(&mut far, "from a"), 1);
    let asked = eventually("the call is in the log of the node that asked", || {
        let asked = transactions(bench.node("a"), &["append", "asked there"]);
        (!asked.is_empty()).then_some(asked)
    });
    eventually("it is in the log of the node that served it", || {
        let served = transactions(bench.node("b"), &["serve{", "from=a"]);
        asked.is_subset(&served).then_some(())
    });
}
