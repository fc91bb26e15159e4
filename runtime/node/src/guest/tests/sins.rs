//! A store that sins for one account, in the instance in which a hundred others are served.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::losses::PATIENCE;
use super::*;

/// The others: each does everything right and is to be served right.
const OTHERS: u128 = 100;
/// Who sins.
const CULPRIT: u128 = 777;
/// How often a caller comes again after a temporary error, as the layers above and clients do.
const REPEATS: usize = 5;

/// What becomes of the culprit's call.
#[derive(Clone, Copy)]
enum Fate {
    /// It costs its instance, by this; then it is refused.
    Kills(&'static str),
    /// It is answered, and the answer is not believed, because of this.
    Broken(&'static str),
    /// It is served. What it does besides costs no other call.
    Served,
    /// It gets what is not right; that is seen above the hosting only.
    Deceived,
}

struct Case {
    sin: &'static str,
    verb: &'static str,
    fate: Fate,
    /// Calls of the culprit beside the others.
    calls: usize,
}

const fn case(sin: &'static str, verb: &'static str, fate: Fate) -> Case {
    Case { sin, verb, fate, calls: 1 }
}

const CASES: [Case; 20] = [
    case("trap", "message.insert", Fate::Kills("unreachable")),
    case("trap", "message.list", Fate::Kills("unreachable")),
    case("exit", "mailbox.insert", Fate::Kills("exit")),
    case("spin", "message.update", Fate::Kills("200 ms of CPU time")),
    case("spin", "message.fetch", Fate::Kills("200 ms of CPU time")),
    case("sleep", "message.update", Fate::Kills("no answer within 2000 ms")),
    case("sleep", "mailbox.select", Fate::Kills("no answer within 2000 ms")),
    case("devour", "message.insert", Fate::Kills("unreachable")),
    case("recurse", "mailbox.select", Fate::Kills("call stack exhausted")),
    Case { calls: 40, ..case("leak", "mailbox.select", Fate::Served) },
    Case { calls: 40, ..case("hold", "message.update", Fate::Served) },
    case("flood", "message.insert", Fate::Served),
    case("wrong", "mailbox.select", Fate::Broken("another record")),
    case("wrong", "message.list", Fate::Broken("order")),
    case("nonsense", "message.list", Fate::Broken("")),
    case("nonsense", "message.select", Fate::Broken("")),
    case("other", "mailbox.select", Fate::Broken("another record")),
    case("other", "mailbox.list", Fate::Deceived),
    case("other", "message.fetch", Fate::Deceived),
    case("lost-flag", "message.update", Fate::Deceived),
];

fn limits(sin: &str) -> Limits {
    // Wall time passes on a busy machine while a guest that spins waits for a core; and who writes
    // ten thousand lines needs some.
    let (call_ms, cpu_ms) = match sin {
        "spin" => (15_000, 200),
        "flood" => (15_000, 5_000),
        _ => (2_000, 200),
    };
    Limits {
        call_ms,
        import_ms: 1_000,
        cpu_ms,
        queue_ms: 20_000,
        memory_mib: 64,
        handles: 4_096,
        ..one_instance()
    }
}

async fn faulty(sin: &str, verb: Option<&str>, every: Option<&str>) -> Bench {
    let mut settings = BTreeMap::from([("sin".to_owned(), sin.to_owned())]);
    if let Some(verb) = verb {
        settings.insert("verb".to_owned(), verb.to_owned());
        settings.insert("account".to_owned(), AccountId::from_u128(CULPRIT).to_string());
    }
    settings.extend(every.map(|every| ("every".to_owned(), every.to_owned())));
    let host = Host::new(HostConfig::default()).unwrap();
    let grants = Grants { settings, ..Grants::default() };
    let component = host.load(guest("faulty"), &grants, limits(sin)).await.unwrap();
    Bench { engine: Arc::new(MemoryEngine::new()), component }
}

/// An account's two mailboxes and two messages, as they are to be read.
struct Mail {
    account: u128,
    mailboxes: [MailboxRow; 2],
    messages: [MessageRow; 2],
    octets: bytes::Bytes,
}

impl Mail {
    fn of(account: u128) -> Self {
        let octets = bytes::Bytes::from(format!("mail of {account}"));
        let mailbox_id = account << 8;
        Self {
            account,
            mailboxes: [mailbox(mailbox_id, "INBOX"), mailbox(mailbox_id + 1, "Sent")],
            messages: [1, 2].map(|uid| message(mailbox_id, uid, octets.len())),
            octets,
        }
    }

    /// Does one thing; `Damaged`, which no function answers here, when what it reads is not right.
    async fn act(&self, bench: &Bench, verb: &str) -> Result<(), StoreError> {
        let right = match verb.ends_with("insert") || verb.ends_with("update") {
            true => self.write(bench, verb).await.map(|()| true),
            false => match verb.starts_with("mailbox") {
                true => self.read_mailboxes(bench, verb).await,
                false => self.read_messages(bench, verb).await,
            },
        };
        match right? {
            true => Ok(()),
            false => Err(StoreError::Damaged(format!("{verb} did not answer what is right"))),
        }
    }

    async fn write(&self, bench: &Bench, verb: &str) -> Result<(), StoreError> {
        let (stores, info) = (Stores::all(bench.component.clone()), call(self.account));
        let txn = bench.txn(self.account);
        match verb {
            "mailbox.insert" => {
                stores.mailboxes.insert(info, &txn, self.mailboxes.to_vec()).await?;
            }
            "message.insert" => {
                let octets = self.octets.clone();
                let body = bench.engine.new_body(space(self.account), octets).await.unwrap();
                let (rows, bodies) = (self.messages.to_vec(), vec![body; 2]);
                stores.messages.insert(info, &txn, rows, bodies).await?;
            }
            "message.update" => {
                let change = |row: &MessageRow| MessageChange {
                    mailbox: row.mailbox,
                    uid: row.uid,
                    modseq: row.modseq,
                    flags: row.flags.clone(),
                    extra: row.extra.clone(),
                };
                let changes = self.messages.iter().map(change).collect();
                stores.messages.update(info, &txn, changes).await?;
            }
            verb => panic!("{verb}"),
        }
        bench.commit(self.account, &txn).await;
        Ok(())
    }

    /// Whether what is read is right.
    async fn read_mailboxes(&self, bench: &Bench, verb: &str) -> Result<bool, StoreError> {
        let mailboxes = Stores::all(bench.component.clone()).mailboxes;
        let (info, view) = (call(self.account), bench.view(self.account));
        match verb {
            "mailbox.select" => {
                let names = self.mailboxes.iter().map(|row| row.id).collect();
                let found = mailboxes.select(info, &view, names).await?;
                Ok(found == self.mailboxes.clone().map(Some))
            }
            "mailbox.list" => {
                let page = mailboxes.list(info, &view, None, 10).await?;
                Ok(page.rows == self.mailboxes)
            }
            verb => panic!("{verb}"),
        }
    }

    /// Whether what is read is right.
    async fn read_messages(&self, bench: &Bench, verb: &str) -> Result<bool, StoreError> {
        let messages = Stores::all(bench.component.clone()).messages;
        let (info, view) = (call(self.account), bench.view(self.account));
        let mailbox = self.mailboxes[0].id;
        match verb {
            "message.select" => {
                let place = |row: &MessageRow| MessagePlace { mailbox, uid: row.uid };
                let places = self.messages.iter().map(place).collect();
                let found = messages.select(info, &view, places).await?;
                Ok(found == self.messages.clone().map(Some))
            }
            "message.list" => {
                let page = messages.list(info, &view, mailbox, None, 10).await?;
                Ok(page.rows == self.messages)
            }
            "message.fetch" => {
                let name = self.messages[0].name.clone();
                let part = messages.fetch(info, &view, mailbox, name, 0, 1 << 20).await?;
                Ok(match part {
                    Some(Part::Octets(octets)) => octets == self.octets,
                    Some(Part::Body(body)) => {
                        view.read_body(&body, 0, 1 << 20).await.unwrap() == self.octets
                    }
                    None => false,
                })
            }
            verb => panic!("{verb}"),
        }
    }

    /// The same, again after temporary errors; how often.
    async fn persist(&self, bench: &Bench, verb: &str) -> Result<usize, StoreError> {
        let mut repeats = 0;
        loop {
            match self.act(bench, verb).await {
                Ok(()) => return Ok(repeats),
                Err(StoreError::Unavailable(_) | StoreError::Busy(_)) if repeats < REPEATS => {
                    repeats += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A life: everything is written and read; how often something had to be repeated.
    async fn live(&self, bench: &Bench) -> Result<usize, StoreError> {
        let mut repeats = 0;
        for verb in LIFE {
            repeats += self.persist(bench, verb).await?;
        }
        Ok(repeats)
    }

    /// What has to be there before a function can be called.
    async fn prepare(&self, bench: &Bench, verb: &str) {
        for before in LIFE.into_iter().take_while(|before| *before != verb) {
            if before.ends_with("insert") {
                self.act(bench, before).await.unwrap();
            }
        }
    }
}

const LIFE: [&str; 8] = [
    "mailbox.insert",
    "message.insert",
    "mailbox.select",
    "mailbox.list",
    "message.update",
    "message.select",
    "message.list",
    "message.fetch",
];

/// Sum of a counter of this test.
fn counted(metrics: &PrometheusHandle, name: &str) -> u64 {
    let text = metrics.render();
    let values = text.lines().filter(|line| line.starts_with(name));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Memory of this process, in MiB; of this test only where it runs alone.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("kB");
    kib / 1024
}

/// What came of a case, for the table.
struct Line {
    culprit: String,
    repeated: usize,
    lost: u64,
    replaced: u64,
    recovery: Duration,
    /// Of the process, in MiB: before, while everything goes on at most, and after.
    memory: [u64; 3],
}

impl Case {
    async fn check(&self, metrics: &PrometheusHandle) -> Line {
        let bench = faulty(self.sin, Some(self.verb), None).await;
        let (memory_before, mut memory_most) = (resident_mib(), 0);
        let culprit = Mail::of(CULPRIT);
        culprit.prepare(&bench, self.verb).await;
        let before = counted(metrics, "postroom_guest_instances_lost_total");
        let replaced = counted(metrics, "postroom_guest_instances_retired_total");
        let others: Vec<_> = (1..=OTHERS).map(Mail::of).collect();
        let sins = async {
            let mut last = Ok(());
            for _ in 0..self.calls {
                last = culprit.act(&bench, self.verb).await;
                memory_most = memory_most.max(resident_mib());
            }
            last
        };
        let (got, lives) =
            tokio::join!(sins, join_all(others.iter().map(|mail| mail.live(&bench))));
        let mut repeated = 0;
        for life in lives {
            repeated += life.unwrap_or_else(|error| panic!("another's call: {error}"));
        }
        // A lie may need what the others have left with the store.
        let got = match self.fate {
            Fate::Broken(_) | Fate::Deceived => culprit.act(&bench, self.verb).await,
            Fate::Kills(_) | Fate::Served => got,
        };
        let got = self.judge(&bench, &culprit, got).await;
        let began = Instant::now();
        assert_eq!(Mail::of(OTHERS + 1).live(&bench).await, Ok(0), "once all is over");
        let recovery = began.elapsed();
        self.goes_on(&bench, &culprit).await;
        settle(&bench).await;
        let lost = counted(metrics, "postroom_guest_instances_lost_total") - before;
        let replaced = counted(metrics, "postroom_guest_instances_retired_total") - replaced;
        // What gathers in an instance goes with it.
        assert!(self.calls == 1 || replaced > 0, "nothing was replaced");
        match self.fate {
            Fate::Kills(_) => assert_eq!(bench.component.quarantined().len(), 1),
            Fate::Broken(_) | Fate::Served | Fate::Deceived => {
                assert_eq!((lost, bench.component.quarantined().len()), (0, 0));
            }
        }
        let memory = [memory_before, memory_most, resident_mib()];
        Line { culprit: got, repeated, lost, replaced, recovery, memory }
    }

    /// Holds what the culprit got against its fate, and in one line.
    async fn judge(&self, bench: &Bench, culprit: &Mail, got: Result<(), StoreError>) -> String {
        match self.fate {
            Fate::Kills(why) => {
                let (mut got, mut tries) = (got, 1);
                while !matches!(&got, Err(error) if error.to_string().contains("is refused for")) {
                    let error = got.expect_err("a call that kills");
                    assert!(error.is_temporary() && error.to_string().contains(why), "{error:?}");
                    assert!(tries <= 2, "{tries} tries, and it is not refused: {error}");
                    tries += 1;
                    got = culprit.act(bench, self.verb).await;
                }
                let text = got.expect_err("a refusal").to_string();
                assert!(text.contains(why), "{text}");
                format!("{why}; refused at try {tries}")
            }
            Fate::Broken(why) => {
                let error = got.expect_err("an answer that is not right");
                let broken = matches!(&error, StoreError::Broken(text) if text.contains(why));
                assert!(broken, "{error:?}");
                error.to_string()
            }
            Fate::Served => {
                assert_eq!(got, Ok(()));
                "served".to_owned()
            }
            Fate::Deceived => {
                // A write shows it when it is read.
                let seen = match self.verb {
                    "message.update" => culprit.act(bench, "message.select").await,
                    _ => got,
                };
                assert!(matches!(seen, Err(StoreError::Damaged(_))), "{seen:?}");
                "what is not right".to_owned()
            }
        }
    }

    /// What else the culprit's account does.
    async fn goes_on(&self, bench: &Bench, culprit: &Mail) {
        let other = if self.verb == "mailbox.list" { "mailbox.select" } else { "mailbox.list" };
        match self.verb {
            "mailbox.insert" => {
                let page = Stores::all(bench.component.clone())
                    .mailboxes
                    .list(call(CULPRIT), &bench.view(CULPRIT), None, 10)
                    .await;
                assert_eq!(page, Ok(Page { rows: Vec::new(), more: false }));
            }
            _ => assert_eq!(culprit.act(bench, other).await, Ok(())),
        }
    }
}

/// Waits until there is one instance again, with nothing in it.
async fn settle(bench: &Bench) {
    let (rest, began) = (Load { instances: 1, calls: 0 }, Instant::now());
    while bench.component.load() != rest {
        assert!(began.elapsed() < PATIENCE, "{:?}", bench.component.load());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_sin_costs_its_own_calls_and_a_hundred_others_are_served() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    println!(
        "sin | function | the culprit got | the others (repeats) | lost | replaced | another's life afterwards | MiB before, most, after"
    );
    for case in CASES {
        let line = case.check(&metrics).await;
        let Line { culprit, repeated, lost, replaced, recovery, memory: [before, most, after] } =
            line;
        println!(
            "{} | {} | {culprit} | {OTHERS} right ({repeated}) | {lost} | {replaced} | {recovery:?} | {before}, {most}, {after}",
            case.sin, case.verb
        );
    }
}

#[tokio::test]
async fn a_trap_on_every_hundredth_call_is_no_operations_fault() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let bench = faulty("trap", None, Some("100")).await;
    let others: Vec<_> = (1..=OTHERS).map(Mail::of).collect();
    let (mut repeated, mut failed) = (0, Vec::new());
    for life in join_all(others.iter().map(|mail| mail.live(&bench))).await {
        match life {
            Ok(repeats) => repeated += repeats,
            Err(error) => failed.push(error.to_string()),
        }
    }
    let lost = counted(&metrics, "postroom_guest_instances_lost_total");
    println!("each hundredth | {OTHERS} lives, {repeated} repeats | {lost} lost | {failed:?}");
    assert!(lost > 0);
    // Where a write was alone in its instance when that trapped, it is told that it was the reason.
    assert!(failed.iter().all(|error| error.contains("unreachable")), "{failed:?}");
    assert_eq!(bench.component.quarantined(), []);
}

#[tokio::test]
async fn a_store_that_traps_when_it_starts_is_not_loaded_and_another_one_is_served() {
    let host = Host::new(HostConfig::default()).unwrap();
    let settings = BTreeMap::from([("sin".to_owned(), "start".to_owned())]);
    let grants = Grants { settings, ..Grants::default() };
    for _ in 0..2 {
        let refused = host.load(guest("faulty"), &grants, limits("start")).await.err();
        assert!(
            matches!(&refused, Some(LoadError::Start(why)) if why.contains("unreachable")),
            "{refused:?}"
        );
    }
    let component = host.load(default_store(), &Grants::default(), limits("none")).await.unwrap();
    let bench = Bench { engine: Arc::new(MemoryEngine::new()), component };
    for account in 1..=OTHERS {
        assert_eq!(Mail::of(account).live(&bench).await, Ok(0));
    }
}
