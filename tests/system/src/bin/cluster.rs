//! Starts a local cluster and prints lines to try it with: `cargo xtask cluster 3`.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use postroom_system::cluster::{LocalCluster, PASSWORD};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let nodes = args.next().map_or(Ok(3), |text| text.parse()).context("how many nodes?")?;
    let scratch = postroom_system::scratch();
    let folder = args.next().map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    eprintln!("starting PostgreSQL and {nodes} nodes in {}", folder.display());
    let cluster = LocalCluster::start(&folder, nodes)?;
    cluster.add_user("anna")?;
    println!("user anna, password {PASSWORD}, on any node:\n");
    for node in &cluster.nodes {
        let (name, imap, lmtp, admin) = (&node.name, node.imap, node.lmtp, node.admin);
        println!(
            "  node {name}: IMAP {imap}, LMTP {lmtp}, admin {admin}, log {}",
            node.log().display()
        );
    }
    let (first, last) = (&cluster.nodes[0], &cluster.nodes[nodes - 1]);
    let token = folder.join("a/data/admin-token");
    let program = postroom_system::node::program();
    println!(
        "
Deliver to node {a}, read from node {z}:
  printf 'LHLO me\\r\\nMAIL FROM:<you@example.org>\\r\\nRCPT TO:<anna>\\r\\nDATA\\r\\nSubject: Hello\\r\\n\\r\\nFirst mail.\\r\\n.\\r\\nQUIT\\r\\n' | curl -s telnet://{lmtp}
  curl -s 'imap://anna:{PASSWORD}@{imap}/INBOX;MAILINDEX=1'

See the cluster, and who has anna's mailboxes open:
  {program} cluster status --admin {admin} --token-file {token}
  {program} mailbox where --user anna --admin {admin} --token-file {token}

Kill a node, and go on reading from another one:
  kill -9 {pid}     # node {a}

Return (or the end of standard input) stops all of it.",
        a = first.name,
        z = last.name,
        lmtp = first.lmtp,
        imap = last.imap,
        admin = first.admin,
        token = token.display(),
        program = program.display(),
        pid = first.pid().unwrap_or_default(),
    );
    // A line, or the end.
    let _ = std::io::stdin().read(&mut [0; 1])?;
    Ok(())
}
