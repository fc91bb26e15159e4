//! What a store's deployments leave behind on real nodes: journals, and the way back to the configuration.

use postroom_system::soak::versions::Versions;
use postroom_system::store_cluster::{STORE, StoreCluster, tables};
use postroom_system::{eventually, scratch};
use serde_json::Value;

/// What a node's journal says of the store, as lines of the command.
fn journal(bench: &StoreCluster, node: usize, more: &[&str]) -> Result<Vec<Value>, String> {
    let args = [&["store", "logs", STORE], more].concat();
    bench.cluster.nodes[node].command(&args, "").map_err(|error| format!("{error:#}"))
}

#[test]
fn p5_deployments_are_forgotten_and_the_configuration_serves_again() {
    let folder = scratch();
    let mut versions = Versions::build(folder.path()).expect("the components can be built");
    let [configured, second, third] = std::array::from_fn(|_| versions.good("").expect("ours"));
    let file = folder.path().join("mail.wasm");
    std::fs::copy(&configured, &file).expect("the folder is ours");
    let mut bench = StoreCluster::start(folder, 2, &tables(&file));
    let forget = |bench: &StoreCluster, more: &[&str]| {
        let args = ["store", "forget", STORE, "--yes", "--probation", "1s", "--watch"];
        let done = bench.first().command(&[&args[..], more].concat(), "");
        done.map(drop).map_err(|error| format!("{error:#}"))
    };
    let nothing = forget(&bench, &[]).unwrap_err();
    assert!(nothing.contains("no deployment stands over the configuration"), "{nothing}");
    let before = bench.serves(0);
    bench.deploy(&second, &["--probation", "1s"]).expect("it becomes permanent");
    let after = bench.serves(0);

    // A node whose configuration names something else refuses it for all.
    std::fs::copy(&third, &file).expect("the folder is ours");
    let changed = forget(&bench, &[]).unwrap_err();
    assert!(changed.contains("is another one than when this node started"), "{changed}");
    bench.cluster.nodes[1].kill();
    bench.cluster.nodes[1].start().expect("it starts again");
    std::fs::copy(&configured, &file).expect("the folder is ours");
    bench.all_are_heard();
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
    let last = bench.history().len();
    let end = format!("deployment {last} is permanent");
    for (node, name) in [(0, "a"), (1, "b")] {
        let lines = eventually("the node has seen the end", || {
            let lines = journal(&bench, node, &["--node", name]).ok()?;
            lines.iter().any(|line| line["text"] == end.as_str()).then_some(lines)
        });
        let said = |generation: Option<u64>, text: &str| {
            lines.iter().any(|line| {
                let of = line["generation"].as_u64();
                of == generation && line["text"].as_str().is_some_and(|it| it.contains(text))
            })
        };
        assert!(said(None, &format!("deployment {last}: probation")), "{lines:?}");
        let serves = lines.iter().filter(|line| line["text"] == "serves, on probation");
        assert_eq!(serves.count(), 2 - node, "{lines:?}");
    }
    let other = journal(&bench, 0, &["--node", "b"]).unwrap_err();
    assert!(other.contains("the node at --admin is a"), "{other}");
    let args = ["store", "logs", "letters"];
    let unknown = format!("{:#}", bench.first().command(&args, "").unwrap_err());
    assert!(unknown.contains("there is no store letters: this node has mail"), "{unknown}");
}
