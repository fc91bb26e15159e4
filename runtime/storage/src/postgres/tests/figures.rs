//! What commits cost: printed with `--nocapture`. Only that they go through is asserted; machines differ.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use super::*;

/// How long each figure is measured.
const TIME: Duration = Duration::from_millis(1500);

async fn writer(engine: Arc<PostgresEngine>, owner: Owner, until: Instant) -> u64 {
    let octets = Bytes::from(vec![7; 4096]);
    let mut written = 0u64;
    while Instant::now() < until {
        written += 1;
        let name = format!("{written:08}");
        let body = engine.new_body(owner.space, octets.clone()).await.unwrap();
        let link = Write::LinkBody { name: name.clone(), body };
        let writes =
            vec![put(name, vec![1; 200]), put("counter", written.to_be_bytes().to_vec()), link];
        engine.commit(owner.commit(writes, vec![])).await.unwrap();
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_4_kib_by_writers() {
    for writers in [1u8, 16, 64] {
        let engine = empty_engine().await;
        // Some accounts share a slot.
        let mut fences = HashMap::new();
        let mut owners = Vec::new();
        for account in (1..=writers).map(|n| AccountId([n; 16])) {
            let slot = Slot::of(account);
            if let Entry::Vacant(unclaimed) = fences.entry(slot) {
                unclaimed.insert(claim(&engine, slot, 1).await.unwrap());
            }
            owners.push(Owner { space: Space::Account(account), fence: fences[&slot] });
        }
        let (start, before) = (Instant::now(), engine.stats());
        let until = start + TIME;
        let all =
            owners.into_iter().map(|owner| tokio::spawn(writer(engine.clone(), owner, until)));
        let mut written = 0;
        for done in futures::future::join_all(all).await {
            written += done.unwrap();
        }
        let seconds = start.elapsed().as_secs_f64();
        let groups = engine.stats().groups - before.groups;
        println!(
            "{writers} writers: {:.0} commits/s, {:.1} in a group",
            written as f64 / seconds,
            written as f64 / groups as f64
        );
        assert!(written >= u64::from(writers));
    }
}
