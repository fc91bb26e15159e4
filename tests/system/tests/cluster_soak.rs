//! Load from clients on all nodes while nodes are killed, paused and stopped and the database is killed: what
//! was acknowledged is there, no attempt is there twice, no UID means two things. `POSTROOM_SEED` replays the
//! choices of a run, `POSTROOM_SECONDS` sets its length.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use postroom_system::cluster::{LocalCluster, PASSWORD};
use postroom_system::{ImapClient, LmtpClient, Random, eventually, scratch};

const ACCOUNTS: [&str; 3] = ["anna", "ben", "cleo"];
const NODES: usize = 3;
const WORKERS_OF_A_NODE: usize = 2;
/// How long a run is that nobody asked to be longer, in seconds.
const SECONDS: u64 = 25;

/// What clients were told.
#[derive(Default)]
struct Told {
    /// UID of each attempt that was acknowledged by APPENDUID, by account.
    appended: BTreeMap<(&'static str, String), u32>,
    /// Attempts that an MTA was told 250 for.
    delivered: BTreeSet<(&'static str, String)>,
    /// What each UID was announced for.
    meaning: BTreeMap<(&'static str, u32), String>,
    attempts: u64,
}

struct Load {
    doors: Vec<RwLock<(SocketAddr, SocketAddr)>>,
    told: Mutex<Told>,
    stop: AtomicBool,
    /// Answers that said "not now".
    refused: AtomicU64,
    /// Connections that broke.
    broken: AtomicU64,
    /// The longest time that a client waited for an answer, by what was being done to the cluster.
    waits: Mutex<BTreeMap<&'static str, Duration>>,
    fault: Mutex<&'static str>,
}

impl Load {
    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let during = *self.fault.lock().unwrap();
        let began = Instant::now();
        let done = work();
        let took = began.elapsed();
        // It counts for what was done when it began, or for what has been done since.
        let mut waits = self.waits.lock().unwrap();
        for fault in [during, *self.fault.lock().unwrap()] {
            let longest = waits.entry(fault).or_default();
            *longest = (*longest).max(took);
        }
        done
    }
}

fn message(attempt: &str) -> Vec<u8> {
    format!("Subject: attempt\r\nX-Attempt: {attempt}\r\n\r\nx\r\n").into_bytes()
}

/// One connection's life; it ends with the connection, or the run.
fn life(load: &Load, node: usize, random: &mut Random, name: &str) -> std::io::Result<()> {
    let account = ACCOUNTS[random.below(3) as usize];
    let (imap, lmtp) = *load.doors[node].read().unwrap();
    let mut client = load.timed(|| ImapClient::log_in(imap, account, PASSWORD))?;
    let mut mta = LmtpClient::connect(lmtp)?;
    let selected = load.timed(|| client.command("SELECT INBOX"))?;
    if !selected.is_ok() {
        load.refused.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let (mut highest, mut largest) = (0_u64, 0_u32);
    for number in 0..40 {
        if load.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let attempt = format!("{name}-{number}");
        match random.below(5) {
            0..=1 => {
                load.told.lock().unwrap().attempts += 1;
                let answer = load.timed(|| client.append("INBOX", "", &message(&attempt)))?;
                if !answer.is_ok() {
                    load.refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let uid: u32 = answer.code("APPENDUID").expect("APPENDUID")[1].parse().unwrap();
                assert!(uid > largest, "{account}: UID {uid} after {largest}");
                largest = uid;
                let mut told = load.told.lock().unwrap();
                let before = told.meaning.insert((account, uid), attempt.clone());
                assert_eq!(before, None, "{account}: UID {uid} means {attempt} too");
                told.appended.insert((account, attempt), uid);
            }
            2 => {
                load.told.lock().unwrap().attempts += 1;
                let replies = load.timed(|| mta.deliver(&[account], &message(&attempt)))?;
                match replies[0].starts_with("250") {
                    true => drop(load.told.lock().unwrap().delivered.insert((account, attempt))),
                    false => drop(load.refused.fetch_add(1, Ordering::Relaxed)),
                }
            }
            3 => drop(load.timed(|| client.command("NOOP"))?),
            _ => {
                let status = load.timed(|| client.command("STATUS INBOX (HIGHESTMODSEQ)"))?;
                let text = status.lines().join(" ");
                if let Some((_, rest)) = text.split_once("HIGHESTMODSEQ ") {
                    let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
                    let now: u64 = digits.unwrap_or("").parse().expect("a number");
                    assert!(now >= highest, "{account}: {now} after {highest}");
                    highest = now;
                }
            }
        }
    }
    Ok(())
}

fn work(load: &Load, node: usize, mut random: Random, name: &str) {
    for life_number in 0.. {
        if load.stop.load(Ordering::Relaxed) {
            return;
        }
        if life(load, node, &mut random, &format!("{name}-{life_number}")).is_err() {
            load.broken.fetch_add(1, Ordering::Relaxed);
            eventually("the node is back", || {
                let (_, lmtp) = *load.doors[node].read().unwrap();
                let back = load.stop.load(Ordering::Relaxed) || LmtpClient::connect(lmtp).is_ok();
                back.then_some(())
            });
        }
    }
}

/// Does something to the cluster, and makes it whole again.
fn disturb(cluster: &mut LocalCluster, load: &Load, random: &mut Random) -> &'static str {
    let node = random.below(NODES as u64) as usize;
    let fault = ["kill a node", "pause a node", "stop a node", "kill the database"]
        [random.below(4) as usize];
    *load.fault.lock().unwrap() = fault;
    match fault {
        "kill a node" => cluster.nodes[node].kill(),
        "pause a node" => {
            cluster.nodes[node].pause().unwrap();
            // Past a take-over: as long as nobody else has taken what it had.
            let began = Instant::now();
            let other = (node + 1) % NODES;
            let name = cluster.nodes[node].name.clone();
            eventually("its mailboxes are taken over", || {
                let owned = ACCOUNTS.iter().any(|account| {
                    let place =
                        cluster.nodes[other].command(&["mailbox", "where", "--user", account], "");
                    place.is_ok_and(|place| place[0]["node"] == name.as_str())
                });
                (!owned || began.elapsed() > Duration::from_secs(8)).then_some(())
            });
            cluster.nodes[node].resume().unwrap();
        }
        "stop a node" => {
            let code = cluster.nodes[node].stop().unwrap();
            assert_eq!(code, Some(0), "it ends in good order");
        }
        _ => {
            cluster.postgres.kill().unwrap();
            cluster.postgres.start_again().unwrap();
        }
    }
    if cluster.nodes[node].pid().is_none() {
        cluster.nodes[node].start().expect("it starts again");
        *load.doors[node].write().unwrap() = (cluster.nodes[node].imap, cluster.nodes[node].lmtp);
    }
    fault
}

#[test]
fn what_was_acknowledged_is_there_whatever_happens_to_nodes_and_database() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let (seed, seconds) = (number("POSTROOM_SEED", 1), number("POSTROOM_SECONDS", SECONDS));
    println!("POSTROOM_SEED={seed} POSTROOM_SECONDS={seconds}");
    let folder = scratch();
    let mut cluster = LocalCluster::start(folder.path(), NODES).expect("the cluster starts");
    ACCOUNTS.iter().for_each(|account| cluster.add_user(account).expect("a user"));
    let load = Arc::new(Load {
        doors: cluster.nodes.iter().map(|node| RwLock::new((node.imap, node.lmtp))).collect(),
        told: Mutex::default(),
        stop: AtomicBool::new(false),
        refused: AtomicU64::new(0),
        broken: AtomicU64::new(0),
        waits: Mutex::default(),
        fault: Mutex::new("nothing"),
    });
    let mut random = Random(seed);
    let mut workers = Vec::new();
    for node in 0..NODES {
        for worker in 0..WORKERS_OF_A_NODE {
            let (load, own) = (load.clone(), Random(random.bits()));
            let name = format!("{node}{worker}");
            workers.push(std::thread::spawn(move || work(&load, node, own, &name)));
        }
    }
    let acknowledged = || {
        let told = load.told.lock().unwrap();
        (told.appended.len() + told.delivered.len()) as u64
    };
    let began = Instant::now();
    let mut faults = BTreeMap::<&str, u32>::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        // Something has been acknowledged since the last time: the cluster works again.
        let before = acknowledged();
        let some = 5 + random.below(30);
        eventually("mail is taken again", || (acknowledged() >= before + some).then_some(()));
        *faults.entry(disturb(&mut cluster, &load, &mut random)).or_default() += 1;
        assert!(
            !workers.iter().any(|worker| worker.is_finished()),
            "a client has seen something wrong"
        );
    }
    let before = acknowledged();
    eventually("mail is taken at the end", || (acknowledged() > before + 20).then_some(()));
    load.stop.store(true, Ordering::Relaxed);
    workers.into_iter().for_each(|worker| worker.join().expect("no client saw anything wrong"));
    check(&cluster, &load, &faults);
}

fn check(cluster: &LocalCluster, load: &Load, faults: &BTreeMap<&str, u32>) {
    let told = load.told.lock().unwrap();
    let (mut present, mut wrong) = (0, Vec::new());
    for account in ACCOUNTS {
        let mut there = BTreeMap::<String, Vec<u32>>::new();
        let imap = cluster.nodes[0].imap;
        let mut client = eventually("log in", || ImapClient::log_in(imap, account, PASSWORD).ok());
        assert!(client.command("SELECT INBOX").unwrap().is_ok());
        let fetched =
            client.command("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (X-Attempt)])").unwrap();
        assert!(fetched.is_ok(), "{}", fetched.tagged);
        for line in fetched.lines() {
            let uid = line.split_once("UID ").and_then(|(_, rest)| rest.split(' ').next());
            let attempt = line.split_once("X-Attempt: ").and_then(|(_, rest)| rest.lines().next());
            if let (Some(uid), Some(attempt)) = (uid, attempt) {
                let uid = uid.trim_end_matches(')').parse().expect("a UID");
                there.entry(attempt.trim().to_owned()).or_default().push(uid);
            }
        }
        for (attempt, uids) in &there {
            if uids.len() > 1 {
                wrong.push(format!("{account}: {attempt} is there as {uids:?}"));
            }
        }
        for ((_, attempt), uid) in told.appended.iter().filter(|((of, _), _)| *of == account) {
            match there.get(attempt).map(Vec::as_slice) {
                Some([found]) if found == uid => present += 1,
                found => wrong.push(format!("{account}: {attempt} was {uid}, is {found:?}")),
            }
        }
        for (_, attempt) in told.delivered.iter().filter(|(of, _)| *of == account) {
            match there.contains_key(attempt) {
                true => present += 1,
                false => wrong.push(format!("{account}: {attempt} was delivered and is not there")),
            }
        }
    }
    println!(
        "acknowledged {}, present {present}, attempts {}, refused for the moment {}, connections broken {}",
        told.appended.len() + told.delivered.len(),
        told.attempts,
        load.refused.load(Ordering::Relaxed),
        load.broken.load(Ordering::Relaxed),
    );
    println!("faults {faults:?}; longest waits {:?}", load.waits.lock().unwrap());
    assert!(wrong.is_empty(), "{} wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
}
