//! New versions of a store's component take over on real nodes, while mail clients go on.

use std::path::{Path, PathBuf};

use postroom_contract::component;
use postroom_system::eventually;
use postroom_system::versions::{Load, STORE, Versions, tagged};

fn start(nodes: usize, settings: &str) -> Versions {
    Versions::start(nodes, &component("keyed"), settings)
}

/// The same component as another version.
fn version(bench: &Versions, tag: u8) -> PathBuf {
    tagged(&component("keyed"), bench.folder.path(), tag)
}

#[test]
fn p5_versions_follow_each_other_under_load_and_no_client_notices() {
    let mut bench = start(3, "");
    let load = Load::on(&bench.cluster);
    load.goes_on(50);
    let before = bench.serves(0);
    for tag in 1..=3 {
        let canary = if tag == 2 { &["--canary", "b"][..] } else { &[] };
        let args = [&["--probation", "1s"], canary].concat();
        bench.deploy(&version(&bench, tag), &args).expect("a good version becomes permanent");
        let serves = bench.serves(0);
        assert_ne!(serves, before);
        bench.all_serve(&serves);
        load.goes_on(50);
    }
    load.check(&bench.cluster);
    assert!(bench.history().iter().all(|(outcome, _)| outcome == "permanent"));
    let again = bench.deploy(&version(&bench, 3), &[]).unwrap_err();
    assert!(again.contains("serves already"), "{again}");
    // Who is started anew serves what was deployed, and not what its configuration names.
    let serves = bench.serves(0);
    bench.cluster.nodes[2].kill();
    bench.cluster.nodes[2].start().expect("it starts again");
    assert_eq!(bench.serves(2), serves);
}

#[test]
fn p5_a_version_that_fails_goes_by_itself_and_no_client_notices() {
    let bench = start(2, r#"sin = "trap", verb = "message.insert", every = "300""#);
    let load = Load::on(&bench.cluster);
    load.goes_on(50);
    let before = bench.serves(0);
    let why = bench.deploy(&component("faulty"), &["--probation", "10m"]).unwrap_err();
    assert!(why.contains("rolled back") && why.contains("messages insert"), "{why}");
    bench.all_serve(&before);
    load.goes_on(50);
    load.check(&bench.cluster);
    let history = bench.history();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].0, "rolled-back");
    assert!(history[0].1.contains("unreachable"), "{history:?}");
}

#[test]
fn p5_what_cannot_serve_is_refused_in_one_line_and_never_serves() {
    let bench = start(2, r#"sin = "trap", verb = "message.insert""#);
    let before = bench.serves(0);
    let deploy = |file: &Path, more: &[&str], part: &str| {
        let why = bench.deploy(file, more).unwrap_err();
        // What comes before says how it went.
        let last = why.lines().last().unwrap_or("");
        assert!(last.contains(part), "{why}");
    };
    let broken = bench.folder.path().join("broken.wasm");
    let whole = std::fs::read(component("keyed")).expect("it was built");
    std::fs::write(&broken, &whole[..whole.len() / 2]).expect("the folder is ours");
    deploy(&broken, &[], "broken.wasm");
    std::fs::write(&broken, "rubbish").expect("the folder is ours");
    deploy(&broken, &[], "broken.wasm");
    deploy(&version(&bench, 1), &["--canary", "z"], "no node z lives");
    // It is verified where it is to serve.
    deploy(&component("faulty"), &[], "refused");
    assert_eq!(bench.history().len(), 1, "only the last one was begun");
    bench.all_serve(&before);
    // One at a time.
    let version = version(&bench, 2);
    let args = ["store", "deploy", version.to_str().unwrap(), "--to", STORE, "--probation", "1h"];
    bench.first().command(&args, "").expect("it begins");
    deploy(&version(&bench, 3), &[], "under way");
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
}
