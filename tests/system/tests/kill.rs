//! `kill -9` at seeded random moments under mixed load: what was acknowledged is there, nothing is
//! there twice, no UID ever means two things; also while the disk fills up and is freed again.
//! `POSTROOM_SEED` replays a run, `POSTROOM_ROUNDS` or `POSTROOM_SECONDS` set its length, `POSTROOM_MIB` the size
//! of that disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

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

/// What workers share.
struct Load {
    imap: SocketAddr,
    lmtp: SocketAddr,
    /// A refusal for the moment is an answer too: nothing is acknowledged by it.
    disk_fills: bool,
    log: Arc<Mutex<Acknowledged>>,
    done: AtomicU64,
    refused: AtomicU64,
}

impl Load {
    /// Whether an answer acknowledges what was asked.
    fn accepts(&self, command: &str, ok: bool, answer: &str) -> bool {
        if !ok {
            let temporary = answer.starts_with("NO") || answer.starts_with('4');
            assert!(self.disk_fills && temporary, "{command}: {answer}");
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
        ok
    }
}

/// One worker's load; ends at the first error, which is the kill.
fn work(load: &Load, mut random: Random, name: &str) -> std::io::Result<()> {
    let (imap, lmtp, log) = (load.imap, load.lmtp, &load.log);
    let account = ACCOUNTS[random.below(3) as usize];
    let mut client = ImapClient::log_in(imap, account, "secret")?;
    let mut mta = LmtpClient::connect(lmtp)?;
    client.command("CREATE Copies")?;
    client.command("CREATE Bin")?;
    client.command("SELECT INBOX")?;
    let mut latest: Option<(u32, String)> = None;
    for number in 0.. {
        load.done.fetch_add(1, Ordering::SeqCst);
        let attempt = format!("{name}-{number}");
        match (random.below(10), latest.clone()) {
            (0..=3, _) | (_, None) => {
                log.lock().unwrap().attempts += 1;
                let answer = client.append("INBOX", "(\\Seen) ", &message(&attempt))?;
                if !load.accepts("APPEND", answer.is_ok(), &answer.tagged) {
                    continue;
                }
                let uid = answer.code("APPENDUID").expect("APPENDUID")[1].parse().unwrap();
                let mut log = log.lock().unwrap();
                log.delivered.insert((account, attempt.clone()));
                log.placed.insert((account, "INBOX", uid), attempt.clone());
                latest = Some((uid, attempt));
            }
            (4..=5, _) => {
                log.lock().unwrap().attempts += 1;
                let replies = mta.deliver(&[account], &message(&attempt))?;
                if load.accepts("DATA", replies[0].starts_with("250"), &replies[0]) {
                    log.lock().unwrap().delivered.insert((account, attempt));
                }
            }
            (6..=7, Some((uid, _))) => {
                if client.command(&format!("UID STORE {uid} +FLAGS (\\Flagged)"))?.is_ok() {
                    log.lock().unwrap().flagged.insert((account, "INBOX", uid));
                }
            }
            (8, Some((uid, of))) => {
                let answer = client.command(&format!("UID COPY {uid} Copies"))?;
                if !load.accepts("COPY", answer.is_ok(), &answer.tagged) {
                    continue;
                }
                let to = answer.code("COPYUID").expect("COPYUID")[2].parse().unwrap();
                log.lock().unwrap().placed.insert((account, "Copies", to), of);
            }
            (_, Some(_)) => bin(&mut client, account, &attempt, load)?,
        }
    }
    Ok(())
}

/// Appends to Bin, and removes it again.
fn bin(
    client: &mut ImapClient,
    account: &'static str,
    attempt: &str,
    load: &Load,
) -> std::io::Result<()> {
    let answer = client.append("Bin", "(\\Deleted) ", &message(attempt))?;
    if !load.accepts("APPEND", answer.is_ok(), &answer.tagged) {
        return Ok(());
    }
    let uid: u32 = answer.code("APPENDUID").expect("APPENDUID")[1].parse().unwrap();
    client.command("SELECT Bin")?;
    if client.command(&format!("UID EXPUNGE {uid}"))?.is_ok() {
        load.log.lock().unwrap().expunged.insert((account, "Bin", uid));
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

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A run: rounds of load and a kill, each followed by a look at everything.
struct Run {
    seed: u64,
    random: Random,
    log: Arc<Mutex<Acknowledged>>,
    seen: Seen,
    refused: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let (random, log) = (Random(seed), Arc::default());
        Self { seed, random, log, seen: Seen::default(), refused: 0 }
    }

    /// Load until a random moment, then `kill -9`. `midway` is done when half of it is.
    fn load_and_kill(&mut self, data: &Path, round: u64, disk_fills: bool, midway: impl FnOnce()) {
        // Each refusal on a full disk is a warning.
        let node = Node::start_with(data, &["--log", "error"]);
        let load = Arc::new(Load {
            imap: node.imap,
            lmtp: node.lmtp,
            disk_fills,
            log: self.log.clone(),
            done: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (load, random) = (load.clone(), Random(self.random.bits()));
                let name = format!("{}-{round}-{worker}", self.seed);
                std::thread::spawn(move || work(&load, random, &name))
            })
            .collect();
        let moment = 1 + self.random.below(400);
        let reaches = |moment: u64| {
            eventually("the load reaches a moment", || {
                (load.done.load(Ordering::SeqCst) >= moment).then_some(())
            });
        };
        reaches(moment / 2);
        midway();
        reaches(moment);
        node.kill();
        for worker in workers {
            let ended = worker.join().expect("no worker saw a wrong answer");
            assert!(ended.is_err(), "only the kill ends a worker");
        }
        let refused = load.refused.load(Ordering::SeqCst);
        self.refused += refused;
        eprintln!("round {round}: killed after {moment}, {refused} refused");
    }

    fn verify(&mut self, node: &Node) -> Found {
        let log = self.log.lock().unwrap();
        let found = verify(node.imap, &log, &mut self.seen);
        eprintln!("  {} attempts present, {} acknowledged facts hold", found.present, found.facts);
        assert_eq!(found.present, log.delivered.len(), "lost");
        found
    }

    /// Once more, with nothing under way: what a client would find tomorrow.
    fn end(mut self, data: &Path) {
        let node = Node::start(data);
        let found = self.verify(&node);
        assert_eq!(node.stop(), Some(0), "a clean stop");
        let log = self.log.lock().unwrap();
        eprintln!(
            "acknowledged {}, present {}, attempts {} ({} present, none twice), refused {}, places {} in {} mailboxes (none with two meanings), other facts {}",
            log.delivered.len(),
            found.present,
            log.attempts,
            found.attempts,
            self.refused,
            self.seen.meaning.len(),
            self.seen.validity.len(),
            found.facts
        );
    }

    /// Removes the older half of what is kept. On a full disk too: that is how it gets room.
    fn thin(&mut self, node: &Node) {
        let mut log = self.log.lock().unwrap();
        for account in ACCOUNTS {
            let mut client = ImapClient::log_in(node.imap, account, "secret").unwrap();
            for mailbox in ["INBOX", "Copies"] {
                thin(&mut client, (account, mailbox), &mut log);
            }
        }
    }
}

fn thin(
    client: &mut ImapClient,
    (account, mailbox): (&'static str, &'static str),
    log: &mut Acknowledged,
) {
    let (_, mut rows) = read(client, mailbox);
    rows.truncate(rows.len() / 2);
    let Some(last) = rows.last().map(|row| row.0) else { return };
    for command in
        [format!("UID STORE 1:{last} +FLAGS.SILENT (\\Deleted)"), format!("UID EXPUNGE 1:{last}")]
    {
        let answer = client.command(&command).unwrap();
        assert!(answer.is_ok(), "{command}: {}", answer.tagged);
    }
    for (uid, attempt, _) in rows {
        let place = (account, mailbox, uid);
        if mailbox == "INBOX" {
            log.delivered.remove(&(account, attempt));
        }
        log.placed.remove(&place);
        log.flagged.remove(&place);
        log.expunged.insert(place);
    }
}

#[test]
fn acknowledged_work_survives_kill_9_at_random_moments() {
    let (seed, rounds) = (number("POSTROOM_SEED", 1), number("POSTROOM_ROUNDS", 20));
    eprintln!("POSTROOM_SEED={seed} POSTROOM_ROUNDS={rounds}");
    let folder = scratch();
    let mut run = Run::new(seed);
    for round in 0..rounds {
        run.load_and_kill(folder.path(), round, false, || {});
        let node = Node::start(folder.path());
        run.verify(&node);
        assert_eq!(node.stop(), Some(0), "a clean stop");
    }
    run.end(folder.path());
}

/// A disk of its own, in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(mib: u64) -> Self {
        let folder = scratch();
        let size = format!("size={mib}m");
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path());
        assert!(mount.status().expect("mount is there").success(), "a small disk needs root");
        Self(folder)
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.path().join("ballast")).expect("a file");
        let (block, mut size) = (vec![1; 1 << 20], 1 << 20);
        while size > 0 {
            match std::io::Write::write(&mut file, &block[..size]) {
                Ok(_) => {}
                Err(_) => size /= 2,
            }
        }
    }

    fn free(&self) {
        let _ = std::fs::remove_file(self.0.path().join("ballast"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the small disk is in use");
    }
}

#[test]
fn acknowledged_work_survives_kill_9_while_the_disk_fills_up_and_is_freed() {
    /// Size of the disk: mail of some rounds, a snapshot, the reserve. A long run needs more: answers are
    /// remembered for a day.
    const MIB: u64 = 96;
    let mib = number("POSTROOM_MIB", MIB);
    let seed = number("POSTROOM_SEED", 1);
    let (rounds, seconds) = (number("POSTROOM_ROUNDS", 8), number("POSTROOM_SECONDS", 0));
    eprintln!(
        "POSTROOM_SEED={seed} POSTROOM_ROUNDS={rounds} POSTROOM_SECONDS={seconds} POSTROOM_MIB={mib}"
    );
    let disk = SmallDisk::new(mib);
    let data = disk.0.path().join("data");
    let (mut run, began) = (Run::new(seed), Instant::now());
    let goes_on =
        |round| if seconds > 0 { began.elapsed().as_secs() < seconds } else { round < rounds };
    for round in 0.. {
        if !goes_on(round) {
            break;
        }
        let when = run.random.below(4);
        if when == 1 && round > 0 {
            // Room for the few octets that a start notes.
            disk.fill();
            let file = std::fs::File::options().write(true).open(disk.0.path().join("ballast"));
            let file = file.expect("it is there");
            let most = file.metadata().expect("it is there").len();
            file.set_len(most.saturating_sub(64 << 10)).expect("it gets shorter");
        }
        run.load_and_kill(&data, round, true, || match when {
            2 => disk.fill(),
            3 => {
                disk.fill();
                disk.free();
            }
            _ => {}
        });
        disk.free();
        let node = Node::start(&data);
        run.verify(&node);
        if round % 3 == 2 {
            // What is full must be able to make room.
            disk.fill();
            run.thin(&node);
            disk.free();
            run.verify(&node);
        }
        assert_eq!(node.stop(), Some(0), "a clean stop");
    }
    assert!(run.refused > 0, "the disk was never full");
    run.end(&data);
}
