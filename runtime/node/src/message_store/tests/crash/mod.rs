//! Losses of power under the whole message store: mixed load over the embedded engine on a disk in
//! memory, which loses power at seeded moments. From every image that the loss can leave behind,
//! what was acknowledged is there, nothing is there twice, no UID means two things, no counter has
//! gone back. `POSTROOM_SEED` names the first history, `POSTROOM_HISTORIES` how many there are.
//!
//! The moments and the load follow from the seed; how threads take turns does not.

mod flips;
mod load;
mod told;

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use postroom_core::error::StoreError;
use tokio::runtime::{Builder, Runtime};

use super::{Random, mailbox, secret, setting};
use crate::guest::native_plain::Plain;
use crate::message_store::{CheckEvent, Config, DirectoryMode, MessageStore};
use crate::storage::files::image::ImageDisk;
use crate::storage::{Engine, RedbEngine, RedbOptions};
use load::Worker;
use told::{ACCOUNTS, Found, MAILBOXES, Told};

/// The first history of a run.
const SEED: u64 = 1;
const HISTORIES: u64 = 40;
/// Losses of power in a history.
const LOSSES: u64 = 5;
const WORKERS: u64 = 6;
/// Operations of the disk after which power is lost at the latest, if there is work for so many.
const OPERATIONS: u64 = 2_000;
/// Torn images of one loss, beside the one that has only what was made durable.
const TORN: u64 = 2;

/// Small segments, so that they are filled, emptied and rewritten often.
const OPTIONS: RedbOptions = RedbOptions {
    cache_octets: 1 << 20,
    inline_octets: 4096,
    segment_octets: 150_000,
    checkpoint_octets: 60_000,
    checkpoint_pause: std::time::Duration::ZERO,
    snapshot_octets: 120_000,
    reserve_octets: 256 << 10,
    heal_pause: std::time::Duration::ZERO,
};

/// A disk that outlives the nodes that run on it.
struct Machine {
    disk: ImageDisk,
    /// Starts of a node so far.
    generation: u64,
}

impl Machine {
    fn start(&mut self) -> MessageStore {
        self.open().0
    }

    /// A node, and the engine under it.
    fn open(&mut self) -> (MessageStore, Arc<RedbEngine>) {
        self.generation += 1;
        let engine = RedbEngine::open_files(self.disk.files(), OPTIONS);
        let engine = engine.expect("a disk opens whatever happened to it");
        let directory = DirectoryMode::Dev { password: secret("pw") };
        let config = Config { node: "test".into(), generation: self.generation, directory };
        let engine = Arc::new(engine);
        (MessageStore::new(config, Plain::stores().0, engine.clone()), engine)
    }

    /// Reads everything and holds it against what callers were told.
    fn verify(&mut self, told: &mut Told) -> Found {
        let runtime = runtime();
        runtime.block_on(async { told.verify(&self.start()).await })
    }

    /// Load until power is lost, or until it is done: then it is lost while nothing is under way.
    fn lose_power(&mut self, random: &mut Random, history: &str, told: &Mutex<Told>) {
        let runtime = runtime();
        runtime.block_on(async {
            let store = self.start();
            self.disk.power_off_at(self.disk.operations() + 1 + random.below(OPERATIONS));
            let worker = |number| {
                let name = format!("{history}-{number}");
                Worker::new(&store, told, Random(random.below(u64::MAX)), name).work()
            };
            let workers = join_all((0..WORKERS).map(worker).collect::<Vec<_>>());
            tokio::select! {
                // Both are dropped where they are, as a crash would do it.
                () = self.disk.went_off() => {}
                ended = workers => for error in ended.into_iter().filter_map(Result::err) {
                    assert!(self.disk.is_off(), "{error} with the power on");
                },
            }
        });
        // With its runtime every task of the node ends at once, and the engine with the last one.
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// What a run has compared.
#[derive(Default)]
struct Sum {
    losses: u64,
    images: u64,
    found: Found,
}

fn history(seed: u64, sum: &mut Sum) {
    let mut random = Random(seed);
    let mut machine = Machine { disk: ImageDisk::new(), generation: 0 };
    let mut told = Told::default();
    for loss in 0..LOSSES {
        let shared = Mutex::new(told);
        machine.lose_power(&mut random, &format!("{seed}-{loss}"), &shared);
        told = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        let lost = machine.disk;
        let mut images = vec![lost.synced_image()];
        images.extend((0..TORN).map(|_| lost.crash_image(random.below(u64::MAX))));
        // The world goes on from one of them; the others are looked at as if it had from them.
        let chosen = random.below(images.len() as u64) as usize;
        machine.disk = images.swap_remove(chosen);
        for disk in images {
            let generation = machine.generation;
            Machine { disk, generation }.verify(&mut told.clone());
        }
        machine.verify(&mut told);
        sum.losses += 1;
        sum.images += 1 + TORN;
    }
    // After a last start, with nothing lost in between.
    sum.found += machine.verify(&mut told);
}

#[test]
fn acknowledged_work_survives_every_loss_of_power() {
    let seed = setting("POSTROOM_SEED", SEED);
    let histories = setting("POSTROOM_HISTORIES", HISTORIES);
    let mut sum = Sum::default();
    for seed in seed..seed.saturating_add(histories) {
        println!("POSTROOM_SEED={seed} POSTROOM_HISTORIES=1");
        history(seed, &mut sum);
    }
    let Found { acknowledged, present, attempts, there, places } = sum.found;
    println!(
        "acknowledged {acknowledged}, present {present}, attempts {attempts} ({there} present, none twice), places {places} (none with two meanings); {} losses of power, {} images, seeds from {seed}",
        sum.losses, sum.images
    );
    assert_eq!(acknowledged, present, "lost");
    assert!(acknowledged > 0, "nothing was acknowledged: nothing was tested");
}
