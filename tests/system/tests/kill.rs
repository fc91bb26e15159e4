//! `kill -9` at seeded random moments under mixed load: what was acknowledged is there, nothing is
//! there twice, no UID ever means two things. `POSTROOM_SEED` replays a run, `POSTROOM_ROUNDS` sets
//! its length.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use postroom_system::{ImapClient, LmtpClient, Node, Random, eventually, scratch};

const ACCOUNTS: [&str; 3] = ["anna", "ben", "cleo"];
const WORKERS: u64 = 6;

/// A message's place as the server named it.
type Place = (&'static str, &'static str, u32);

/// What clients were told. Only acknowledged things go in.
#[derive(Default)]
struct Acknowledged {
    /// Attempts in INBOX, by account and id.
    delivered: BTreeSet<(&'static str, String)>,
    /// Places that were announced for an attempt (APPENDUID, COPYUID).
    placed: BTreeMap<Place, String>,
    /// Places that got \Flagged.
    flagged: BTreeSet<Place>,
    /// Places that were expunged.
    expunged: BTreeSet<Place>,
    /// Attempts to put a message into INBOX, acknowledged or not.
    attempts: u64,
}

/// What a place has ever been seen to hold, and each mailbox's UIDVALIDITY.
#[derive(Default)]
struct Seen {
    meaning: BTreeMap<Place, String>,
    validity: BTreeMap<(&'static str, &'static str), String>,
}

fn message(attempt: &str) -> Vec<u8> {
    let filler = "0123456789abcdef".repeat(1 + attempt.len() % 7 * 200);
    format!("Subject: attempt\r\nX-Attempt: {attempt}\r\n\r\n{filler}\r\n").into_bytes()
}

/// One worker's load; ends at the first error, which is the kill.
fn work(
    (imap, lmtp): (SocketAddr, SocketAddr),
    mut random: Random,
    name: &str,
    log: &Mutex<Acknowledged>,
    done: &AtomicU64,
) -> std::io::Result<()> {
    let account = ACCOUNTS[random.below(3) as usize];
    let mut client = ImapClient::log_in(imap, account, "secret")?;
    let mut mta = LmtpClient::connect(lmtp)?;
    client.command("CREATE Copies")?;
    client.command("CREATE Bin")?;
    client.command("SELECT INBOX")?;
    let mut latest: Option<(u32, String)> = None;
    for number in 0.. {
        let attempt = format!("{name}-{number}");
        match (random.below(10), latest.clone()) {
            (0..=3, _) | (_, None) => {
                log.lock().unwrap().attempts += 1;
                let answer = client.append("INBOX", "(\\Seen) ", &message(&attempt))?;
                assert!(answer.is_ok(), "APPEND: {}", answer.tagged);
                let uid = answer.code("APPENDUID").expect("APPENDUID")[1].parse().unwrap();
                let mut log = log.lock().unwrap();
                log.delivered.insert((account, attempt.clone()));
                log.placed.insert((account, "INBOX", uid), attempt.clone());
                latest = Some((uid, attempt));
            }
            (4..=5, _) => {
                log.lock().unwrap().attempts += 1;
                let replies = mta.deliver(&[account], &message(&attempt))?;
                assert!(replies[0].starts_with("250"), "{replies:?}");
                log.lock().unwrap().delivered.insert((account, attempt));
            }
            (6..=7, Some((uid, _))) => {
                if client.command(&format!("UID STORE {uid} +FLAGS (\\Flagged)"))?.is_ok() {
                    log.lock().unwrap().flagged.insert((account, "INBOX", uid));
                }
            }
            (8, Some((uid, of))) => {
                let answer = client.command(&format!("UID COPY {uid} Copies"))?;
                assert!(answer.is_ok(), "COPY: {}", answer.tagged);
                let to = answer.code("COPYUID").expect("COPYUID")[2].parse().unwrap();
                log.lock().unwrap().placed.insert((account, "Copies", to), of);
            }
            (_, Some(_)) => bin(&mut client, account, &attempt, log)?,
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Appends to Bin, and removes it again.
fn bin(
    client: &mut ImapClient,
    account: &'static str,
    attempt: &str,
    log: &Mutex<Acknowledged>,
) -> std::io::Result<()> {
    let answer = client.append("Bin", "(\\Deleted) ", &message(attempt))?;
    assert!(answer.is_ok(), "APPEND: {}", answer.tagged);
    let uid: u32 = answer.code("APPENDUID").expect("APPENDUID")[1].parse().unwrap();
    client.command("SELECT Bin")?;
    if client.command(&format!("UID EXPUNGE {uid}"))?.is_ok() {
        log.lock().unwrap().expunged.insert((account, "Bin", uid));
    }
    client.command("SELECT INBOX")?;
    Ok(())
}

/// Everything in a mailbox: uid, attempt, flags as the server prints them.
fn read(client: &mut ImapClient, mailbox: &str) -> (String, Vec<(u32, String, String)>) {
    let answer = client.command(&format!("SELECT {mailbox}")).unwrap();
    if !answer.is_ok() {
        return Default::default();
    }
    let validity = answer.code("UIDVALIDITY").expect("UIDVALIDITY")[0].clone();
    let fetch = "UID FETCH 1:* (UID FLAGS BODY.PEEK[])";
    let answer = client.command(fetch).unwrap();
    assert!(answer.is_ok(), "{}", answer.tagged);
    let rows = answer.lines().into_iter().filter(|line| line.contains("X-Attempt: ")).map(|line| {
        let between = |start: &str, end: &str| {
            let rest = line.split_once(start).unwrap_or_else(|| panic!("{start} in {line}")).1;
            rest.split_once(end).unwrap_or_else(|| panic!("{end} in {line}")).0.to_owned()
        };
        let attempt = between("X-Attempt: ", "\r\n");
        assert!(line.contains("abcdef\r\n"), "a torn body: {line}");
        (
            between("UID ", " ").trim_end_matches(')').parse().unwrap(),
            attempt,
            between("FLAGS (", ")"),
        )
    });
    (validity, rows.collect())
}

/// What was found by reading every mailbox.
#[derive(Default)]
struct Found {
    /// Acknowledged attempts that are there.
    present: usize,
    /// Attempts that are there, acknowledged or not, each once.
    attempts: usize,
    /// Acknowledged facts that were compared: places, flags, removals.
    facts: usize,
}

/// Reads every mailbox and compares it with what was acknowledged.
fn verify(imap: SocketAddr, log: &Acknowledged, seen: &mut Seen) -> Found {
    let mut present: BTreeMap<Place, (String, String)> = BTreeMap::new();
    let mut inboxes: BTreeMap<(&str, String), u32> = BTreeMap::new();
    for account in ACCOUNTS {
        let mut client = ImapClient::log_in(imap, account, "secret").unwrap();
        for mailbox in ["INBOX", "Copies", "Bin"] {
            let (validity, rows) = read(&mut client, mailbox);
            if validity.is_empty() {
                continue;
            }
            let known = seen.validity.entry((account, mailbox)).or_insert(validity.clone());
            assert_eq!(*known, validity, "UIDVALIDITY of {account}'s {mailbox} changed");
            for (uid, attempt, flags) in rows {
                let place = (account, mailbox, uid);
                let meaning = seen.meaning.entry(place).or_insert(attempt.clone());
                assert_eq!(*meaning, attempt, "{place:?} means two things");
                if mailbox == "INBOX" {
                    *inboxes.entry((account, attempt.clone())).or_default() += 1;
                }
                assert!(present.insert(place, (attempt, flags)).is_none(), "{place:?} twice");
            }
        }
    }
    for (key, count) in &inboxes {
        assert_eq!(*count, 1, "{key:?} is in INBOX {count} times");
    }
    let there = |key: &&(&'static str, String)| inboxes.contains_key(*key);
    if let Some(lost) = log.delivered.iter().find(|key| !there(key)) {
        panic!("acknowledged, not there: {lost:?}");
    }
    for (place, attempt) in &log.placed {
        let there = present.get(place).map(|(attempt, _)| attempt);
        assert_eq!(there, Some(attempt), "announced at {place:?}");
    }
    for place in &log.flagged {
        assert!(present[place].1.contains("\\Flagged"), "{place:?} lost its flag");
    }
    for place in &log.expunged {
        assert!(!present.contains_key(place), "{place:?} came back");
    }
    Found {
        present: log.delivered.iter().filter(there).count(),
        attempts: inboxes.len(),
        facts: log.placed.len() + log.flagged.len() + log.expunged.len(),
    }
}

#[test]
fn acknowledged_work_survives_kill_9_at_random_moments() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (seed, rounds) = (number("POSTROOM_SEED", 1), number("POSTROOM_ROUNDS", 20));
    eprintln!("POSTROOM_SEED={seed} POSTROOM_ROUNDS={rounds}");
    let folder = scratch();
    let mut random = Random(seed);
    let log = Arc::new(Mutex::new(Acknowledged::default()));
    let mut seen = Seen::default();
    for round in 0..rounds {
        let node = Node::start(folder.path());
        let doors = (node.imap, node.lmtp);
        let done = Arc::new(AtomicU64::new(0));
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (log, done) = (log.clone(), done.clone());
                let random = Random(random.bits());
                let name = format!("{seed}-{round}-{worker}");
                std::thread::spawn(move || work(doors, random, &name, &log, &done))
            })
            .collect();
        let moment = 1 + random.below(400);
        eventually("the load reaches the moment of the kill", || {
            (done.load(Ordering::SeqCst) >= moment).then_some(())
        });
        node.kill();
        for worker in workers {
            let ended = worker.join().expect("no worker saw a wrong answer");
            assert!(ended.is_err(), "only the kill ends a worker");
        }
        let node = Node::start(folder.path());
        let found = verify(node.imap, &log.lock().unwrap(), &mut seen);
        eprintln!(
            "round {round}: killed after {moment}, {} attempts present, {} acknowledged facts hold",
            found.present, found.facts
        );
        assert_eq!(node.stop(), Some(0), "a clean stop");
    }
    // Once more, with nothing under way: what a client would find tomorrow.
    let node = Node::start(folder.path());
    let log = log.lock().unwrap();
    let found = verify(node.imap, &log, &mut seen);
    assert_eq!(node.stop(), Some(0), "a clean stop");
    let acknowledged = log.delivered.len();
    eprintln!(
        "acknowledged {acknowledged}, present {}, attempts {} ({} present, none twice), places {} in {} mailboxes (none with two meanings), other facts {}",
        found.present,
        log.attempts,
        found.attempts,
        seen.meaning.len(),
        seen.validity.len(),
        found.facts
    );
    assert_eq!(found.present, acknowledged, "lost");
}
