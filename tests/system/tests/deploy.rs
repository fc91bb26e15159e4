//! New versions of a store's component on real nodes: what cannot serve is refused in one line, and what serves is
//! what a node that starts anew serves. Under load `deploy_soak.rs` does it.

use std::path::PathBuf;

use postroom_system::soak::fault::Fault;
use postroom_system::soak::memory::Memory;
use postroom_system::soak::versions::Versions;
use postroom_system::store_cluster::{STORE, StoreCluster};
use postroom_system::{eventually, scratch};

fn start(nodes: usize) -> (StoreCluster, Versions) {
    let folder = scratch();
    let versions = Versions::build(folder.path()).expect("the components can be built");
    (StoreCluster::start(folder, nodes, &versions.tables()), versions)
}

fn good(bench: &StoreCluster, versions: &mut Versions) -> PathBuf {
    versions.good(&bench.serves(0)).expect("the folder is ours")
}

#[test]
fn p5_what_cannot_serve_is_refused_in_one_line_and_never_serves() {
    let (mut bench, mut versions) = start(2);
    let [first, second, third] = std::array::from_fn(|_| good(&bench, &mut versions));
    let broken = |fault| versions.broken(fault).expect("the folder is ours");
    let before = bench.serves(0);
    bench.is_refused(&broken(Fault::SwapCut), &[], "is damaged at octet");
    bench.is_refused(&broken(Fault::SwapWorld), &[], "rebuild it");
    bench.is_refused(&broken(Fault::SwapAsks), &[], "directory etc, which the store is not");
    let rubbish = bench.folder.path().join("rubbish.wasm");
    std::fs::write(&rubbish, "rubbish").expect("the folder is ours");
    bench.is_refused(&rubbish, &[], "rubbish.wasm");
    bench.is_refused(&first, &["--canary", "z"], "no node z lives");
    // It is verified where it is to serve.
    bench.is_refused(&broken(Fault::SwapStart), &[], "refused");
    assert_eq!(bench.history().len(), 1, "only the last one was begun");
    bench.all_serve(&before);
    // One at a time.
    let args = ["store", "deploy", second.to_str().unwrap(), "--to", STORE, "--probation", "1h"];
    bench.first().command(&args, "").expect("it begins");
    bench.is_refused(&third, &[], "under way");
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
    // Who is started anew serves what was deployed, and not what its configuration names.
    bench.deploy(&third, &["--probation", "0s"]).expect("a good version becomes permanent");
    let serves = bench.serves(0);
    assert_ne!(serves, before);
    bench.is_refused(&third, &[], "serves already");
    bench.cluster.nodes[1].kill();
    bench.cluster.nodes[1].start().expect("it starts again");
    assert_eq!(bench.serves(1), serves);
}

/// Swaps before what is left behind is counted: pools and caches of the process are filled by then.
const WARM_UP: u32 = 2;
/// Swaps that are counted.
const SWAPS: u32 = 8;
/// Mappings that may come meanwhile. A generation with its four instances has some 300, so two of them: if
/// each stayed there would be 2,400 more.
const MAPPINGS: u64 = 600;

/// Resident memory is told, and held against nothing: over the first swaps the allocator comes to keep what
/// compiling and verifying takes, some 250 MiB.
#[test]
fn p5_no_mapping_of_a_version_stays_when_another_one_has_replaced_it() {
    let (bench, mut versions) = start(1);
    let mut swap = |times: u32| {
        for _ in 0..times {
            let version = good(&bench, &mut versions);
            bench.deploy(&version, &["--probation", "0s"]).expect("a good version");
        }
        let memory = Memory::of(bench.first(), times).expect("it runs");
        println!("{memory:?}");
        memory
    };
    let (before, after) = (swap(WARM_UP), swap(SWAPS));
    assert!(after.mappings < before.mappings + MAPPINGS, "{before:?} {after:?}");
}
