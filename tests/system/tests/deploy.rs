//! New versions of a store's component take over on real nodes, while mail clients go on.

use std::path::{Path, PathBuf};

use postroom_contract::component;
use postroom_system::versions::{Load, STORE, Versions, tagged};
use postroom_system::{eventually, scratch};
use serde_json::Value;

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

/// What a node's journal says of the store, as lines of the command.
fn journal(bench: &Versions, node: usize, more: &[&str]) -> Result<Vec<Value>, String> {
    let args = [&["store", "logs", STORE], more].concat();
    bench.cluster.nodes[node].command(&args, "").map_err(|error| format!("{error:#}"))
}

#[test]
fn p5_deployments_are_forgotten_and_the_configuration_serves_again() {
    let own = scratch();
    let file = own.path().join("mail.wasm");
    let whole = std::fs::read(component("keyed")).expect("it was built");
    std::fs::write(&file, &whole).expect("the folder is ours");
    let mut bench = Versions::start(2, &file, "");
    let forget = |bench: &Versions, more: &[&str]| {
        let args = ["store", "forget", STORE, "--yes", "--probation", "1s", "--watch"];
        let done = bench.first().command(&[&args[..], more].concat(), "");
        done.map(drop).map_err(|error| format!("{error:#}"))
    };
    let nothing = forget(&bench, &[]).unwrap_err();
    assert!(nothing.contains("no deployment stands over the configuration"), "{nothing}");
    let before = bench.serves(0);
    let deployed = version(&bench, 1);
    bench.deploy(&deployed, &["--probation", "1s"]).expect("it becomes permanent");
    let after = bench.serves(0);

    // A node whose configuration names something else refuses it for all.
    std::fs::copy(version(&bench, 2), &file).expect("the folder is ours");
    let changed = forget(&bench, &[]).unwrap_err();
    assert!(changed.contains("is another one than when this node started"), "{changed}");
    bench.cluster.nodes[1].kill();
    bench.cluster.nodes[1].start().expect("it starts again");
    std::fs::write(&file, &whole).expect("the folder is ours");
    eventually("all nodes are heard", || {
        let heard = bench.first().command(&["cluster", "status"], "").ok()?;
        (heard.len() == 2).then_some(())
    });
    let other = forget(&bench, &[]).unwrap_err();
    assert!(other.contains("refused") && other.contains("its configuration names"), "{other}");
    bench.all_serve(&after);

    bench.cluster.nodes[1].kill();
    bench.cluster.nodes[1].start().expect("it starts again");
    eventually("the second node answers", || {
        bench.cluster.nodes[1].command(&["store", "status"], "").ok().map(drop)
    });
    forget(&bench, &["--plan"]).expect("it would be taken");
    bench.all_serve(&after);
    forget(&bench, &[]).expect("it becomes permanent");
    bench.all_serve(&before);
    assert_eq!(bench.status(1)["permanent"]["digest"], before);
    let again = forget(&bench, &[]).unwrap_err();
    assert!(again.contains("no deployment stands over the configuration"), "{again}");

    // Each node remembers what it has seen of it.
    for (node, name) in [(0, "a"), (1, "b")] {
        let lines = journal(&bench, node, &["--node", name]).expect("it says what it has seen");
        let said = |generation: Option<u64>, text: &str| {
            lines.iter().any(|line| {
                let of = line["generation"].as_u64();
                of == generation && line["text"].as_str().is_some_and(|it| it.contains(text))
            })
        };
        let last = bench.history().len();
        assert!(said(None, &format!("deployment {last}: probation")), "{lines:?}");
        assert!(said(None, &format!("deployment {last} is permanent")), "{lines:?}");
        let serves = lines.iter().filter(|line| line["text"] == "serves, on probation");
        assert_eq!(serves.count(), 2 - node, "{lines:?}");
    }
    let other = journal(&bench, 0, &["--node", "b"]).unwrap_err();
    assert!(other.contains("the node at --admin is a"), "{other}");
    let args = ["store", "logs", "letters"];
    let unknown = format!("{:#}", bench.first().command(&args, "").unwrap_err());
    assert!(unknown.contains("there is no store letters: this node has mail"), "{unknown}");
}
