//! `postroom cluster …`: certificates are made and brought here; how the cluster is, a running node says.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use super::args::{ClusterCommand, NodeDoor};
use super::config::{Config, EngineChoice};
use super::output::{Output, Progress};
use super::remote::Remote;
use crate::cluster::NodeId;
use crate::cluster::certificates::{self, Authority, Credentials, JoinFile, Reach, Revoked};
use crate::front::admin::cluster::Drained;
use crate::router::{NodeStatus, SlotPlace};
use crate::storage::postgres;

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often a drain says how many slots are left.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Performs a command.
pub fn perform(command: ClusterCommand, output: &Output) -> Result<()> {
    match command {
        ClusterCommand::Init { node, folder } => init(&node, &folder, output),
        ClusterCommand::Invite { node, folder, seeds, out } => {
            invite(&node, &folder, &seeds, &out, output)
        }
        ClusterCommand::Join { file, folder } => join(&file, &folder, output),
        ClusterCommand::Revoke { node, folder, serial } => revoke(&node, &folder, serial, output),
        ClusterCommand::Status { watch, door } => status(watch, &door, output),
        ClusterCommand::Drain { door } => drain(&door, output),
        ClusterCommand::Restored { config } => {
            let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
            runtime.block_on(restored(&config, output))
        }
    }
}

/// Where a slot is, for `postroom mailbox where`.
pub fn place(user: &str, door: &NodeDoor, output: &Output) -> Result<()> {
    let place: SlotPlace = Remote::of(door)?.get("/v1/cluster/where", &[("user", user)])?;
    output.result(&place, || match (&place.node, place.epoch) {
        (Some(node), Some(epoch)) => {
            format!(
                "{user}: account {}, slot {}, open on {node}, epoch {epoch}",
                place.account, place.slot
            )
        }
        _ => format!("{user}: account {}, slot {}, open nowhere", place.account, place.slot),
    })
}

fn node_id(text: &str) -> Result<NodeId> {
    Ok(text.parse::<NodeId>()?)
}

fn init(node: &str, folder: &Path, output: &Output) -> Result<()> {
    let authority = certificates::init(folder, &node_id(node)?, SystemTime::now())?;
    let cluster = authority.cluster().to_string();
    let said = serde_json::json!({ "cluster": cluster, "node": node, "folder": folder });
    output.result(&said, || {
        format!(
            "made cluster {cluster} with node {node} in {folder}; keep authority.key there safe. Next: `postroom cluster invite NODE --folder {folder} --seed {node}=HOST:PORT`",
            folder = folder.display()
        )
    })
}

fn invite(
    node: &str,
    folder: &Path,
    seeds: &[(String, String)],
    out: &Path,
    output: &Output,
) -> Result<()> {
    let addresses: Vec<(NodeId, String)> = seeds
        .iter()
        .map(|(seed, address)| Ok((node_id(seed)?, address.clone())))
        .collect::<Result<_>>()?;
    let names = addresses.iter().map(|(seed, _)| seed.clone()).collect();
    let authority = Authority::open(folder)?;
    let file = authority.join_file(&node_id(node)?, addresses, names, SystemTime::now())?;
    file.write(out)?;
    let said =
        serde_json::json!({ "cluster": file.cluster.to_string(), "node": node, "file": out });
    output.result(&said, || {
        format!(
            "wrote {}: whoever has it is node {node}. Carry it there, then `postroom cluster join {} --folder DIR`",
            out.display(),
            out.display()
        )
    })
}

fn join(file: &Path, folder: &Path, output: &Output) -> Result<()> {
    let invitation = JoinFile::read(file)?;
    invitation.install(folder)?;
    // What was written can be used.
    Credentials::open(folder)?;
    let seeds: Vec<String> =
        invitation.addresses.iter().map(|(seed, address)| format!("{seed}={address}")).collect();
    let said = serde_json::json!({
        "cluster": invitation.cluster.to_string(),
        "node": invitation.node.to_string(),
        "folder": folder,
        "seeds": seeds,
    });
    output.result(&said, || {
        format!(
            "this is node {} now. In its configuration: cluster.certificates = {:?}, cluster.seeds = {seeds:?}; remove {}",
            invitation.node,
            folder.display().to_string(),
            file.display()
        )
    })
}

fn revoke(named: &str, folder: &Path, serial: bool, output: &Output) -> Result<()> {
    let what = match serial {
        true => Revoked::Serial(named.to_owned()),
        false => Revoked::Node(node_id(named)?),
    };
    // Also says whether this is a node's folder at all.
    let own = Credentials::open(folder)?.current().holder.clone();
    let is_own = match &what {
        Revoked::Node(node) => *node == own.node,
        Revoked::Serial(digits) => digits.replace(':', "").eq_ignore_ascii_case(&own.serial),
    };
    ensure!(!is_own, "this is the folder of {named} itself: revoke it at another node");
    let reach = certificates::revoke(folder, what)?;
    let everywhere = reach == Reach::Cluster;
    let said = serde_json::json!({ "revoked": named, "serial": serial, "everywhere": everywhere });
    output.result(&said, || match reach {
        Reach::Cluster => {
            format!("{named} is revoked: running nodes tell each other and cut it off within seconds")
        }
        Reach::ThisNode => format!(
            "{named} is revoked for node {} only: the authority's key is not in {}. Do it where that is",
            own.node,
            folder.display()
        ),
    })
}

fn status(watch: bool, door: &NodeDoor, output: &Output) -> Result<()> {
    let remote = Remote::of(door)?;
    loop {
        let nodes: Vec<NodeStatus> = remote.get("/v1/cluster/status", &[])?;
        if watch {
            output.again();
        }
        let heads = ["NODE", "STATE", "SLOTS", "LINK", "ROUND TRIP", "VERSION", "ADDRESS", "OPEN"];
        output.rows(&heads, &nodes, |node| {
            let trip = node.round_trip_us.map_or("-".into(), |micros| format!("{micros} µs"));
            let open = match (node.accounts, node.sessions, node.visitors) {
                (Some(accounts), Some(sessions), Some(visitors)) => {
                    format!("{accounts} accounts, {sessions} sessions, {visitors} of other nodes")
                }
                _ => "-".to_owned(),
            };
            vec![
                format!("{} ({})", node.node, node.generation),
                node.state.clone(),
                node.slots.to_string(),
                node.link.clone(),
                trip,
                node.version.clone(),
                node.address.clone(),
                open,
            ]
        })?;
        if !watch {
            return Ok(());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn drain(door: &NodeDoor, output: &Output) -> Result<()> {
    let remote = Remote::of(door)?;
    let looking = Remote::of(door)?;
    let done: Drained = std::thread::scope(|scope| {
        let drain = scope.spawn(|| remote.post("/v1/cluster/drain"));
        let mut said = None;
        while !drain.is_finished() {
            // What the drain says is what counts.
            let nodes: Vec<NodeStatus> = looking.get("/v1/cluster/status", &[]).unwrap_or_default();
            let here = nodes.into_iter().find(|node| node.link == "here");
            if let Some(left) = here.map(|node| node.slots).filter(|left| said != Some(*left)) {
                output.warn(&format!("{left} slots to let go"));
                said = Some(left);
            }
            std::thread::sleep(PROGRESS_EVERY);
        }
        drain.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    anyhow::ensure!(done.drained, "not every slot could be let go in time; run it again");
    output.result(&done, || {
        "every slot was let go; clients stay connected, their calls go to other nodes. Stop the node now".to_owned()
    })
}

async fn restored(config: &Path, output: &Output) -> Result<()> {
    let config = Config::read(config)?;
    ensure!(
        config.storage.engine == EngineChoice::Postgres,
        "this node has an embedded engine: `postroom restore` does all that is needed"
    );
    let options = config.storage.without_bodies();
    let mut bar = None;
    let restored = postgres::restore(&options, |progress| {
        let bar = bar.get_or_insert_with(|| output.progress("accounts", progress.of));
        bar.set(progress.done);
    });
    let restored = restored.await?;
    bar.iter().for_each(Progress::finish);
    restored.named.iter().for_each(|why| output.warn(why));
    output.result(
        &serde_json::json!({
            "restored": restored.times,
            "raised": restored.raised,
            "left": restored.left,
            "resumed": restored.resumed,
        }),
        || {
            format!(
                "raised {} accounts above all that can have been announced. Start the nodes now",
                restored.raised
            )
        },
    )?;
    ensure!(
        restored.left == 0,
        "{} accounts are damaged and stay closed: mend them, and do this again",
        restored.left
    );
    Ok(())
}
