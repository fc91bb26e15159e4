//! A cluster whose store is replaced by other versions, and a load for it: what the tests of deployments share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{ClusterNode, LocalCluster, PASSWORD};
use crate::imap::ok;
use crate::{ImapClient, LmtpClient, eventually};

/// Users of the load, each with a client on each node.
pub const USERS: [&str; 2] = ["anna", "berta"];
/// The store in the configuration of all nodes.
pub const STORE: &str = "mail";

/// From one round of a client to its next: without, mailboxes grow so large that reading them in the end is
/// most of a test.
const PACE: Duration = Duration::from_millis(50);

/// Tables of a node's configuration, in which one component keeps everything.
pub fn tables(component: &Path) -> String {
    let kinds = ["domain", "user", "mailbox", "message"];
    let kinds: String = kinds.iter().map(|kind| format!("{kind} = {STORE:?}\n")).collect();
    format!("[stores]\n{kinds}[components.{STORE}]\nfile = {component:?}\n")
}

/// The cluster.
pub struct StoreCluster {
    /// Its nodes.
    pub cluster: LocalCluster,
    /// A folder of its own.
    pub folder: tempfile::TempDir,
}

impl StoreCluster {
    /// Starts nodes with these tables in their configuration, in a folder in which some files may be already;
    /// comes back when all of them have heard of each other.
    pub fn start(folder: tempfile::TempDir, nodes: usize, tables: &str) -> Self {
        let cluster = LocalCluster::start_configured(folder.path(), nodes, tables);
        let cluster = cluster.expect("the cluster starts");
        let started = Self { cluster, folder };
        started.all_are_heard();
        started
    }

    /// Waits until all nodes have heard of each other.
    pub fn all_are_heard(&self) {
        let nodes = &self.cluster.nodes;
        for node in nodes {
            eventually("all nodes are heard", || {
                let heard = node.command(&["cluster", "status"], "").ok()?;
                (heard.len() == nodes.len()).then_some(())
            });
        }
    }

    /// The first node.
    pub fn first(&self) -> &ClusterNode {
        &self.cluster.nodes[0]
    }

    /// Deploys a file and follows it to its end; why it failed, if it did.
    pub fn deploy(&self, file: &Path, more: &[&str]) -> Result<(), String> {
        let file = file.to_str().expect("a plain path");
        let args = ["store", "deploy", file, "--to", STORE, "--yes", "--watch"];
        let done = self.first().command(&[&args[..], more].concat(), "");
        done.map(drop).map_err(|error| format!("{error:#}"))
    }

    /// Deploys a file that must not stay, for a reason in which this is a part of the last line: what comes
    /// before says how it went.
    #[track_caller]
    pub fn is_refused(&self, file: &Path, more: &[&str], part: &str) {
        let why = self.deploy(file, more).unwrap_err();
        assert!(why.lines().last().unwrap_or("").contains(part), "{why}");
    }

    /// How the store is, as a node says.
    pub fn status(&self, node: usize) -> Value {
        let all = self.cluster.nodes[node].command(&["store", "status", STORE], "");
        all.expect("a node says how its store is").remove(0)[0].clone()
    }

    /// What serves on a node, by digest.
    pub fn serves(&self, node: usize) -> String {
        let status = self.status(node);
        let generations = status["generations"].as_array().expect("a list");
        let serving = generations.iter().find(|generation| generation["serves"] == true);
        let digest = &serving.expect("one serves")["version"]["digest"];
        digest.as_str().expect("a text").to_owned()
    }

    /// The outcomes of all deployments, with their reasons.
    pub fn history(&self) -> Vec<(String, String)> {
        let status = self.status(0);
        let ended = status["history"].as_array().expect("a list").iter();
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        ended.map(|ended| (text(&ended["outcome"]), text(&ended["why"]))).collect()
    }

    /// Waits until every node serves this.
    pub fn all_serve(&self, digest: &str) {
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
pub struct Load {
    end: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    clients: Vec<(String, JoinHandle<Done>)>,
    deliveries: JoinHandle<u64>,
}

impl Load {
    /// Begins; its users must be there.
    pub fn on(cluster: &LocalCluster) -> Self {
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
    pub fn goes_on(&self, appends: u64) {
        let at = self.acknowledged.load(Ordering::Relaxed) + appends;
        eventually("clients go on", || {
            let dead = self.clients.iter().any(|(_, client)| client.is_finished());
            (dead || self.acknowledged.load(Ordering::Relaxed) >= at).then_some(())
        });
    }

    /// Ends it, and holds what was acknowledged against what is there.
    pub fn check(self, cluster: &LocalCluster) {
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
        std::thread::sleep(PACE);
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
        std::thread::sleep(PACE);
        let body = format!("Subject: delivery {taken}\r\n\r\nhello\r\n");
        let replies = client.deliver(&[USERS[0]], body.as_bytes()).expect("the connection holds");
        assert!(replies.iter().all(|reply| reply.starts_with("250")), "{replies:?}");
        taken += 1;
    }
    taken
}
