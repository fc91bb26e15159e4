//! New versions of a store's component on real nodes: what cannot serve is refused in one line, and what serves is
//! what a node that starts anew serves. Under load `deploy_soak.rs` does it.

use std::path::{Path, PathBuf};

use postroom_system::cluster::{ClusterNode, LocalCluster};
use postroom_system::soak::fault::Fault;
use postroom_system::soak::memory::Memory;
use postroom_system::soak::versions::{STORE, Versions};
use postroom_system::{eventually, scratch};
use serde_json::Value;

struct Bench {
    cluster: LocalCluster,
    versions: Versions,
    folder: tempfile::TempDir,
}

impl Bench {
    fn start(nodes: usize) -> Self {
        let folder = scratch();
        let versions = Versions::build(folder.path()).expect("the components can be built");
        let cluster = LocalCluster::start_configured(folder.path(), nodes, &versions.tables());
        let cluster = cluster.expect("the cluster starts");
        let bench = Self { cluster, versions, folder };
        for node in &bench.cluster.nodes {
            eventually("all nodes are heard", || {
                let heard = node.command(&["cluster", "status"], "").ok()?;
                (heard.len() == nodes).then_some(())
            });
        }
        bench
    }

    fn good(&mut self) -> PathBuf {
        let serves = self.serves(0);
        self.versions.good(&serves).expect("the folder is ours")
    }

    fn broken(&self, fault: Fault) -> PathBuf {
        self.versions.broken(fault).expect("the folder is ours")
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

#[test]
fn p5_what_cannot_serve_is_refused_in_one_line_and_never_serves() {
    let mut bench = Bench::start(2);
    let (first, second, third) = (bench.good(), bench.good(), bench.good());
    let before = bench.serves(0);
    let deploy = |bench: &Bench, file: &Path, more: &[&str], part: &str| {
        let why = bench.deploy(file, more).unwrap_err();
        // What comes before says how it went.
        let last = why.lines().last().unwrap_or("");
        assert!(last.contains(part), "{why}");
    };
    deploy(&bench, &bench.broken(Fault::SwapCut), &[], "is damaged at octet");
    deploy(&bench, &bench.broken(Fault::SwapWorld), &[], "rebuild it");
    deploy(&bench, &bench.broken(Fault::SwapAsks), &[], "directory etc, which the store is not");
    let rubbish = bench.folder.path().join("rubbish.wasm");
    std::fs::write(&rubbish, "rubbish").expect("the folder is ours");
    deploy(&bench, &rubbish, &[], "rubbish.wasm");
    deploy(&bench, &first, &["--canary", "z"], "no node z lives");
    // It is verified where it is to serve.
    deploy(&bench, &bench.broken(Fault::SwapStart), &[], "refused");
    assert_eq!(bench.history().len(), 1, "only the last one was begun");
    bench.all_serve(&before);
    // One at a time.
    let args = ["store", "deploy", second.to_str().unwrap(), "--to", STORE, "--probation", "1h"];
    bench.first().command(&args, "").expect("it begins");
    deploy(&bench, &third, &[], "under way");
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
    deploy(&bench, &third, &[], "serves already");
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
    let mut bench = Bench::start(1);
    let mut swap = |times: u32| {
        for _ in 0..times {
            let version = bench.good();
            bench.deploy(&version, &["--probation", "0s"]).expect("a good version");
        }
        let memory = Memory::of(bench.first(), times).expect("it runs");
        println!("{memory:?}");
        memory
    };
    let (before, after) = (swap(WARM_UP), swap(SWAPS));
    assert!(after.mappings < before.mappings + MAPPINGS, "{before:?} {after:?}");
}
