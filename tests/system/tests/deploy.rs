//! New versions of a store's component take over on real nodes, while mail clients go on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postroom_contract::component;
use postroom_system::cluster::{ClusterNode, LocalCluster, PASSWORD};
use postroom_system::{ImapClient, LmtpClient, eventually, scratch};
use serde_json::Value;

/// Users, each with a client on each node.
const USERS: [&str; 2] = ["anna", "berta"];
/// The store in all configurations here.
const STORE: &str = "mail";

/// A configuration in which one component of a file keeps everything.
fn tables(file: &Path, settings: &str) -> String {
    let kinds = ["domain", "user", "mailbox", "message"];
    let kinds: String = kinds.iter().map(|kind| format!("{kind} = {STORE:?}\n")).collect();
    format!(
        "[stores]\n{kinds}[components.{STORE}]\nfile = {file:?}\ngrants.settings = {{ {settings} }}\n"
    )
}

/// The same component with another digest: a custom section is added that means nothing.
fn tagged(file: &Path, folder: &Path, tag: u8) -> PathBuf {
    let mut octets = std::fs::read(file).expect("the component was built");
    octets.extend([0, 9, 7]);
    octets.extend(b"version");
    octets.push(tag);
    let path = folder.join(format!("version-{tag}.wasm"));
    std::fs::write(&path, octets).expect("the folder is ours");
    path
}

/// One cluster under load at a time: two cores do not serve three, each with a database.
static ONE: Mutex<()> = Mutex::new(());

struct Bench {
    cluster: LocalCluster,
    folder: tempfile::TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Bench {
    fn start(nodes: usize, settings: &str) -> Self {
        // Who failed holding it has nothing to do with who comes next.
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = scratch();
        let tables = tables(&component("keyed"), settings);
        let cluster = LocalCluster::start_configured(folder.path(), nodes, &tables);
        let cluster = cluster.expect("the cluster starts");
        for user in USERS {
            cluster.add_user(user).expect("a user can be made");
        }
        let bench = Self { cluster, folder, _one: one };
        for node in &bench.cluster.nodes {
            eventually("all nodes are heard", || {
                let heard = node.command(&["cluster", "status"], "").ok()?;
                (heard.len() == nodes).then_some(())
            });
        }
        bench
    }

    fn version(&self, tag: u8) -> PathBuf {
        tagged(&component("keyed"), self.folder.path(), tag)
    }

    fn first(&self) -> &ClusterNode {
        &self.cluster.nodes[0]
    }

    /// Deploys a file and follows it to its end; why it failed, if it did.
    fn deploy(&self, file: &Path, more: &[&str]) -> Result<(), String> {
        let file = file.to_str().expect("a plain path");
        let args = ["store", "deploy", file, "--to", STORE, "--yes", "--watch"];
        let done = self.first().command(&[&args[..], more].concat(), "");
        done.map(drop).map_err(|error| format!("{error:#}"))
    }

    fn status(&self, node: usize) -> Value {
        let all = self.cluster.nodes[node].command(&["store", "status", STORE], "");
        all.expect("a node says how its store is").remove(0)[0].clone()
    }

    /// What serves on a node, by digest.
    fn serves(&self, node: usize) -> String {
        let status = self.status(node);
        let generations = status["generations"].as_array().expect("a list");
        let serving = generations.iter().find(|generation| generation["serves"] == true);
        let digest = &serving.expect("one serves")["version"]["digest"];
        digest.as_str().expect("a text").to_owned()
    }

    /// The outcomes of all deployments, with their reasons.
    fn history(&self) -> Vec<(String, String)> {
        let status = self.status(0);
        let ended = status["history"].as_array().expect("a list").iter();
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        ended.map(|ended| (text(&ended["outcome"]), text(&ended["why"]))).collect()
    }

    fn all_serve(&self, digest: &str) {
        for node in 0..self.cluster.nodes.len() {
            eventually("every node serves it", || (self.serves(node) == digest).then_some(()));
        }
    }
}

/// What one client did.
#[derive(Debug, Default)]
struct Done {
    /// UIDs that were acknowledged, and what was appended under them.
    appended: BTreeMap<u32, String>,
    commands: u64,
    longest: Duration,
}

/// Clients of all users on all nodes, and deliveries.
struct Load {
    end: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    clients: Vec<(String, JoinHandle<Done>)>,
    deliveries: JoinHandle<u64>,
}

impl Load {
    fn on(cluster: &LocalCluster) -> Self {
        let (end, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = Vec::new();
        for node in &cluster.nodes {
            for user in USERS {
                let (address, name) = (node.imap, format!("{user}-{}", node.name));
                let (end, acknowledged) = (end.clone(), acknowledged.clone());
                let client = move || works(address, user, &name, &end, &acknowledged);
                clients.push((user.to_owned(), std::thread::spawn(client)));
            }
        }
        let (lmtp, own) = (cluster.nodes[0].lmtp, end.clone());
        let deliveries = std::thread::spawn(move || delivers(lmtp, &own));
        Self { end, acknowledged, clients, deliveries }
    }

    /// Waits for so many more appends.
    fn goes_on(&self, appends: u64) {
        let at = self.acknowledged.load(Ordering::Relaxed) + appends;
        eventually("clients go on", || {
            let dead = self.clients.iter().any(|(_, client)| client.is_finished());
            (dead || self.acknowledged.load(Ordering::Relaxed) >= at).then_some(())
        });
    }

    /// Ends it, and holds what was acknowledged against what is there.
    fn check(self, cluster: &LocalCluster) {
        self.end.store(true, Ordering::Relaxed);
        let mut by_user: BTreeMap<String, BTreeMap<u32, String>> = BTreeMap::new();
        let (mut commands, mut longest) = (0, Duration::ZERO);
        for (user, client) in self.clients {
            let done = client.join().expect("no client met an error");
            commands += done.commands;
            longest = longest.max(done.longest);
            let all = by_user.entry(user).or_default();
            for (uid, text) in done.appended {
                assert_eq!(all.insert(uid, text), None, "UID {uid} was given twice");
            }
        }
        let delivered = self.deliveries.join().expect("no delivery met an error");
        println!("{commands} commands, {delivered} deliveries, longest {longest:?}");
        let mut present = 0;
        for (user, acknowledged) in &by_user {
            let mut client =
                ImapClient::log_in(cluster.nodes[0].imap, user, PASSWORD).expect("a login");
            ok(&mut client, "SELECT INBOX");
            let lines = ok(&mut client, "UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
            let text = lines.join("\n");
            for (uid, subject) in acknowledged {
                let (uid, subject) = (format!("UID {uid} "), format!("Subject: {subject}\r"));
                let there =
                    text.split("* ").any(|one| one.contains(&uid) && one.contains(&subject));
                assert!(there, "{user}: {uid} with {subject} is not there");
                assert_eq!(text.matches(&subject).count(), 1, "{subject} is there once");
                present += 1;
            }
        }
        println!("acknowledged = present = {present}");
        let subjects = {
            let mut client =
                ImapClient::log_in(cluster.nodes[0].imap, USERS[0], PASSWORD).expect("a login");
            ok(&mut client, "SELECT INBOX");
            ok(&mut client, "SEARCH SUBJECT delivery").join(" ")
        };
        let found = subjects.split_whitespace().filter(|word| word.parse::<u32>().is_ok());
        assert_eq!(found.count() as u64, delivered, "each delivery is there once");
    }
}

fn ok(client: &mut ImapClient, command: &str) -> Vec<String> {
    let answer = client.command(command).unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(answer.is_ok(), "{command}: {}", answer.tagged);
    answer.lines()
}

/// One client: appends, reads, marks. Any NO, BYE or lost connection is a panic.
fn works(
    address: SocketAddr,
    user: &str,
    name: &str,
    end: &AtomicBool,
    acknowledged: &AtomicU64,
) -> Done {
    let mut done = Done::default();
    let mut client =
        eventually("the user can log in", || ImapClient::log_in(address, user, PASSWORD).ok());
    ok(&mut client, "SELECT INBOX");
    let mut last = 0;
    for number in 0.. {
        if end.load(Ordering::Relaxed) {
            ok(&mut client, "LOGOUT");
            return done;
        }
        let subject = format!("{name}-{number}");
        let body = format!("Subject: {subject}\r\n\r\n{subject}\r\n");
        let began = Instant::now();
        let answer = client.append("INBOX", "", body.as_bytes()).expect("the connection holds");
        assert!(answer.is_ok(), "APPEND: {}", answer.tagged);
        let uid: u32 = answer.code("APPENDUID").expect("a UID")[1].parse().expect("a number");
        assert!(uid > last, "UIDs rise: {uid} after {last}");
        last = uid;
        done.longest = done.longest.max(began.elapsed());
        done.appended.insert(uid, subject.clone());
        acknowledged.fetch_add(1, Ordering::Relaxed);
        for command in [
            "NOOP".to_owned(),
            format!("UID FETCH {uid} (FLAGS BODY.PEEK[])"),
            format!("UID STORE {uid} +FLAGS (\\Seen)"),
        ] {
            let began = Instant::now();
            let lines = ok(&mut client, &command).join("\n");
            done.longest = done.longest.max(began.elapsed());
            done.commands += 1;
            if command.contains("BODY") {
                assert!(lines.contains(&subject), "{command}: {lines}");
            }
        }
    }
    done
}

/// Delivers to the first user; how many were taken.
fn delivers(lmtp: SocketAddr, end: &AtomicBool) -> u64 {
    let mut client = LmtpClient::connect(lmtp).expect("the port is open");
    let mut taken = 0;
    while !end.load(Ordering::Relaxed) {
        let body = format!("Subject: delivery {taken}\r\n\r\nhello\r\n");
        let replies = client.deliver(&[USERS[0]], body.as_bytes()).expect("the connection holds");
        assert!(replies.iter().all(|reply| reply.starts_with("250")), "{replies:?}");
        taken += 1;
    }
    taken
}

#[test]
fn p5_versions_follow_each_other_under_load_and_no_client_notices() {
    let mut bench = Bench::start(3, "");
    let load = Load::on(&bench.cluster);
    load.goes_on(50);
    let before = bench.serves(0);
    for tag in 1..=3 {
        let canary = if tag == 2 { &["--canary", "b"][..] } else { &[] };
        let args = [&["--probation", "1s"], canary].concat();
        bench.deploy(&bench.version(tag), &args).expect("a good version becomes permanent");
        let serves = bench.serves(0);
        assert_ne!(serves, before);
        bench.all_serve(&serves);
        load.goes_on(50);
    }
    load.check(&bench.cluster);
    assert!(bench.history().iter().all(|(outcome, _)| outcome == "permanent"));
    let again = bench.deploy(&bench.version(3), &[]).unwrap_err();
    assert!(again.contains("serves already"), "{again}");
    // Who is started anew serves what was deployed, and not what its configuration names.
    let serves = bench.serves(0);
    bench.cluster.nodes[2].kill();
    bench.cluster.nodes[2].start().expect("it starts again");
    assert_eq!(bench.serves(2), serves);
}

#[test]
fn p5_a_version_that_fails_goes_by_itself_and_no_client_notices() {
    let bench = Bench::start(2, r#"sin = "trap", verb = "message.insert", every = "300""#);
    let load = Load::on(&bench.cluster);
    load.goes_on(50);
    let before = bench.serves(0);
    let why = bench.deploy(&component("faulty"), &["--probation", "10m"]).unwrap_err();
    assert!(why.contains("rolled back") && why.contains("messages insert"), "{why}");
    bench.all_serve(&before);
    load.goes_on(50);
    load.check(&bench.cluster);
    let history = bench.history();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].0, "rolled-back");
    assert!(history[0].1.contains("unreachable"), "{history:?}");
}

#[test]
fn p5_what_cannot_serve_is_refused_in_one_line_and_never_serves() {
    let bench = Bench::start(2, r#"sin = "trap", verb = "message.insert""#);
    let before = bench.serves(0);
    let deploy = |file: &Path, more: &[&str], part: &str| {
        let why = bench.deploy(file, more).unwrap_err();
        // What comes before says how it went.
        let last = why.lines().last().unwrap_or("");
        assert!(last.contains(part), "{why}");
    };
    let broken = bench.folder.path().join("broken.wasm");
    let whole = std::fs::read(component("keyed")).expect("it was built");
    std::fs::write(&broken, &whole[..whole.len() / 2]).expect("the folder is ours");
    deploy(&broken, &[], "broken.wasm");
    std::fs::write(&broken, "rubbish").expect("the folder is ours");
    deploy(&broken, &[], "broken.wasm");
    deploy(&bench.version(1), &["--canary", "z"], "no node z lives");
    // It is verified where it is to serve.
    deploy(&component("faulty"), &[], "refused");
    assert_eq!(bench.history().len(), 1, "only the last one was begun");
    bench.all_serve(&before);
    // One at a time.
    let version = bench.version(2);
    let args = ["store", "deploy", version.to_str().unwrap(), "--to", STORE, "--probation", "1h"];
    bench.first().command(&args, "").expect("it begins");
    deploy(&bench.version(3), &[], "under way");
    eventually("both serve it", || {
        let nodes = bench.status(1)["nodes"].clone();
        nodes.as_array()?.iter().all(|node| node["progress"] == "serving").then_some(())
    });
    bench.cluster.nodes[1].command(&["store", "rollback", STORE], "").expect("it goes back");
    bench.all_serve(&before);
    let last = bench.history().pop().expect("it has ended");
    assert_eq!(last, ("rolled-back".to_owned(), "on an operator's request".to_owned()));
    let nothing = bench.first().command(&["store", "commit", STORE], "").unwrap_err();
    assert!(nothing.to_string().contains("nothing is on probation"), "{nothing}");
}
