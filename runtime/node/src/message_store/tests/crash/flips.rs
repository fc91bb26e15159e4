//! One octet of one file is flipped, at seeded places, one at a time: what is found out, what is still
//! served, what a repair and an export bring back. Nothing that was acknowledged is missing in silence.

use super::*;

/// Places that are tried of each disk.
const FLIPS: u64 = 300;

/// What was seen over all flips of one disk.
#[derive(Debug, Default)]
struct Tally {
    /// Nothing was different.
    harmless: u64,
    /// The rows were made anew at the start.
    rebuilt: u64,
    /// Messages whose body was damaged: whoever read them was told.
    bodies: u64,
    /// Messages that were to be read, and that were.
    placed: u64,
    served: u64,
    /// Messages that an export wrote, and that it named as damaged.
    exported: u64,
    named: u64,
}

/// A disk with the load of one run and what callers were told.
fn loaded(clean: bool) -> (ImageDisk, Told) {
    let disk = ImageDisk::new();
    let mut machine = Machine { disk: disk.clone(), generation: 0 };
    let (mut random, told) = (Random(SEED), Mutex::new(Told::default()));
    let image = runtime().block_on(async {
        let (store, engine) = machine.open();
        let worker = |number| {
            let random = Random(random.below(u64::MAX));
            Worker::new(&store, &told, random, format!("{clean}-{number}")).work()
        };
        let workers = (0..WORKERS).map(worker).collect::<Vec<_>>();
        for ended in join_all(workers).await {
            ended.expect("the disk works");
        }
        if clean {
            store.close().await;
            engine.close().await.expect("the disk works");
        }
        disk.synced_image()
    });
    (image, told.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// A place in any file that holds anything.
fn somewhere(disk: &ImageDisk, random: &mut Random) -> (String, u64) {
    let mut names = disk.files().names().expect("the disk works");
    names.retain(|name| name != "reserve");
    let lengths: Vec<u64> = names.iter().map(|name| disk.length(name).unwrap_or(0)).collect();
    // Half of them evenly over the octets, half evenly over the files: small ones count too.
    if random.below(2) == 0 {
        let file = random.below(names.len() as u64) as usize;
        return (names[file].clone(), random.below(lengths[file].max(1)));
    }
    let mut at = random.below(lengths.iter().sum());
    for (name, length) in names.iter().zip(lengths) {
        if at < length {
            return (name.clone(), at);
        }
        at -= length;
    }
    unreachable!("it is below the sum")
}

async fn one(disk: ImageDisk, told: &Told, what: &str, tally: &mut Tally) {
    let mut machine = Machine { disk, generation: 100 };
    let (store, engine) = machine.open();
    let looked = told.look(&store).await;
    assert_eq!(looked.missing, Vec::<String>::new(), "{what}: missing in silence");
    // A copy has the same body.
    assert!(looked.damaged <= 2, "{what}: {} damaged", looked.damaged);
    let rebuilds = engine.stats().rebuilds;
    assert!(rebuilds <= 1, "{what}");
    tally.rebuilt += rebuilds;
    tally.bodies += looked.damaged;
    tally.harmless += u64::from(rebuilds == 0 && looked.damaged == 0);
    tally.placed += told.placed.len() as u64;
    tally.served += looked.served;
    if looked.damaged == 0 {
        return;
    }
    // What the operator does then: the damage has a name, and everything else goes into an archive.
    let mut findings = Vec::new();
    let mut note = |event| {
        if let CheckEvent::Finding(found) = event {
            findings.push(found);
        }
    };
    store.check(true, &mut note).await.expect("it goes on after damage");
    assert!(findings.iter().any(|found| found.kind == "message"), "{what}: {findings:?}");
    for account in ACCOUNTS {
        for name in MAILBOXES {
            let Ok(mut export) = store.export(account, &mailbox(name)).await else { continue };
            while let Some(message) = export.next().await {
                match message {
                    Ok(_) => tally.exported += 1,
                    Err(StoreError::Damaged(_)) => tally.named += 1,
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        }
    }
}

fn flips(clean: bool) {
    let (disk, told) = loaded(clean);
    let (mut random, mut tally) = (Random(SEED + 1), Tally::default());
    for number in 0..setting("POSTROOM_FLIPS", FLIPS) {
        let (name, offset) = somewhere(&disk, &mut random);
        let flipped = disk.copy();
        assert!(flipped.flip(&name, offset) || disk.length(&name) == Some(0));
        let what = format!("flip {number} in {name} at {offset}");
        runtime().block_on(one(flipped.clone(), &told, &what, &mut tally));
        flipped.wipe();
    }
    let when = if clean { "a clean stop" } else { "a kill" };
    println!("one octet flipped, after {when}: {tally:?}, missing in silence 0");
    assert!(tally.rebuilt > 0 && tally.bodies > 0 && tally.harmless > 0, "{tally:?}");
    assert_eq!(tally.named, tally.bodies, "an export names what it leaves out");
    assert_eq!(tally.placed, tally.served + tally.bodies, "only the damaged body is not served");
}

#[test]
fn one_flipped_octet_after_a_clean_stop_costs_one_body_at_most() {
    flips(true);
}

#[test]
fn one_flipped_octet_after_a_kill_costs_one_body_at_most() {
    flips(false);
}
