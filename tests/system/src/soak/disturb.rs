//! Does something to a cluster, and makes it whole again. What must be so meanwhile is looked at here.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::fault::Fault;
use super::load::{Load, Now};
use super::swap::Trials;
use super::versions::Versions;
use crate::Random;
use crate::cluster::LocalCluster;
use crate::eventually::within;
use crate::proxy::{Flow, Trap, Verdict};

/// How long a take-over may take before it is wrong, whatever the goal.
const TAKE_OVER: Duration = Duration::from_secs(30);
/// How long a node that serves clients may take to commit something.
const COMMIT: Duration = Duration::from_secs(10);
/// What PostgreSQL says where a check of a commit does not hold (`division_by_zero`).
const REFUSED: &str = "22012";

/// An account that is open, where, and under which epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    account: usize,
    node: String,
    epoch: u64,
}

/// The cluster and what disturbs it.
pub struct Disturber<'a> {
    /// The cluster.
    pub cluster: &'a mut LocalCluster,
    /// Its clients.
    pub load: &'a Load,
    /// Choices.
    pub random: Random,
    /// What is deployed.
    pub versions: Versions,
    /// What became of it.
    pub trials: Trials,
    /// How often a node was killed during a deployment.
    pub kills: u32,
}

impl Disturber<'_> {
    /// Does it. Afterwards all runs and all ways are open, whatever was wrong; that is the error.
    pub fn disturb(&mut self, fault: Fault) -> Result<()> {
        let node = self.choose(fault);
        let name = self.name(node);
        self.load.event(&format!("{} begins at node {name}", fault.name()));
        self.load.set_now(Now { fault, node: fault.is_of_one().then_some(node) });
        let done =
            self.perform(fault, node).with_context(|| format!("{} of node {name}", fault.name()));
        let mended = self.mend();
        self.load.event(&format!("{} ends", fault.name()));
        done.and(mended)
    }

    /// Where there is something to lose: a node that has accounts open, if one has.
    fn choose(&mut self, fault: Fault) -> usize {
        let nodes = self.cluster.nodes.len();
        let first = self.random.below(nodes as u64) as usize;
        if fault.is_swap() {
            return first;
        }
        let idle_too =
            self.random.below(4) == 0 && !matches!(fault, Fault::LateCommit | Fault::PauseInCommit);
        let order = (0..nodes).map(|offset| (first + offset) % nodes);
        let found = match idle_too {
            true => None,
            false => order.into_iter().find(|node| !self.held_by(*node).is_empty()),
        };
        found.unwrap_or(first)
    }

    fn perform(&mut self, fault: Fault, node: usize) -> Result<()> {
        if fault.is_swap() {
            return self.deploy(fault, node);
        }
        let proxies = self.cluster.proxies().clone();
        match fault {
            Fault::Calm => {}
            Fault::Kill => {
                self.load.goes_down(node);
                self.cluster.nodes[node].kill();
                // Some time without it: others take over, then it comes back.
                self.rest(200, 3_000);
            }
            Fault::Pause => {
                let held = self.held_by(node);
                self.pause(node)?;
                self.taken_over(node, &held)?;
                self.rest(0, 2_000);
            }
            Fault::PauseInCommit => {
                proxies.storage(node).arm(Trap::Answer);
                self.caught(node)?;
                let held = self.held_by(node);
                self.pause(node)?;
                proxies.storage(node).release();
                self.taken_over(node, &held)?;
            }
            Fault::LateCommit => self.late_commit(node)?,
            Fault::HostLost => {
                let held = self.held_by(node);
                proxies.around(node, Flow::Halt);
                proxies.storage(node).set(Flow::Halt);
                self.taken_over(node, &held)?;
                self.rest(0, 3_000);
            }
            Fault::Isolate => {
                let flow = self.black_hole_or_cut();
                self.nothing_moves(node, |_| proxies.around(node, flow))?;
            }
            Fault::Link => {
                let other =
                    (node + 1 + self.random.below(self.cluster.nodes.len() as u64 - 1) as usize)
                        % self.cluster.nodes.len();
                let (flow, ways) = (self.black_hole_or_cut(), self.random.below(3));
                self.load.event(&format!("{flow:?} to node {}, ways {ways}", self.name(other)));
                self.nothing_moves(node, |_| {
                    if ways != 1 {
                        proxies.way(node, other, flow);
                    }
                    if ways != 0 {
                        proxies.way(other, node, flow);
                    }
                })?;
            }
            Fault::Slow => {
                let slow = Flow::Delay(Duration::from_millis(100));
                (0..self.cluster.nodes.len()).for_each(|node| proxies.around(node, slow));
                self.rest(2_000, 6_000);
            }
            Fault::Drain => self.drain(node)?,
            Fault::Stop => self.stop(node)?,
            Fault::StorageRestart => {
                self.cluster.postgres.stop()?;
                self.rest(0, 2_000);
                self.cluster.postgres.start_again()?;
            }
            Fault::StorageKill => {
                self.cluster.postgres.kill()?;
                self.rest(0, 2_000);
                self.cluster.postgres.start_again()?;
            }
            Fault::StorageHalt => {
                self.cluster.postgres.pause()?;
                self.rest(1_000, 8_000);
                self.cluster.postgres.resume()?;
            }
            Fault::StorageOfOne => {
                let held = self.held_by(node);
                proxies.storage(node).set(self.black_hole_or_cut());
                self.taken_over(node, &held)?;
                self.rest(0, 3_000);
            }
            swap => bail!("{} is no deployment", swap.name()),
        }
        Ok(())
    }

    /// A commit is on its way while its node stands still and others take over.
    fn late_commit(&mut self, node: usize) -> Result<()> {
        let proxies = self.cluster.proxies().clone();
        let storage = proxies.storage(node);
        storage.arm(Trap::Statement);
        self.caught(node)?;
        let held = self.held_by(node);
        self.pause(node)?;
        self.taken_over(node, &held)?;
        storage.release();
        match within(COMMIT, || storage.verdict()).context("storage does not answer it")? {
            Verdict::Refused(code) => {
                self.load.event(&format!("the late commit was refused with {code}"));
                ensure!(code == REFUSED, "the late commit failed with {code}, not for its fence");
            }
            // Whose it was is not known, but all that the node had has been taken over.
            Verdict::Done => bail!("the late commit was carried out after the take-over"),
            Verdict::Lost => self.load.event("the late commit's connection was lost"),
        }
        Ok(())
    }

    /// Stops a node that has sent a commit; without any there is nothing to do.
    fn caught(&mut self, node: usize) -> Result<()> {
        let proxies = self.cluster.proxies().clone();
        let caught = within(COMMIT, || proxies.storage(node).has_caught().then_some(()));
        caught.context("it has accounts open and commits nothing")?;
        self.load.event("a commit is caught");
        Ok(())
    }

    fn drain(&mut self, node: usize) -> Result<()> {
        let began = Instant::now();
        let drained = self.cluster.nodes[node].command(&["cluster", "drain"], "");
        self.load.event(&format!("drained in {:.1?}", began.elapsed()));
        drained?;
        let held = self.held_by(node);
        ensure!(held.is_empty(), "drained, it has {held:?} open");
        // Its clients go on at the others.
        let since = self.load.clock();
        let served = within(TAKE_OVER, || self.load.unserved_since(since).is_empty().then_some(()));
        served.context("drained, not all clients are served")?;
        self.stop(node)
    }

    fn stop(&mut self, node: usize) -> Result<()> {
        self.load.goes_down(node);
        let began = Instant::now();
        let code = self.cluster.nodes[node].stop()?;
        self.load.event(&format!("stopped in {:.1?}", began.elapsed()));
        ensure!(code == Some(0), "it ends with {code:?}");
        Ok(())
    }

    fn pause(&self, node: usize) -> Result<()> {
        self.cluster.nodes[node].pause()?;
        self.load.event("it stands still");
        Ok(())
    }

    /// What nodes have open stays where it is, while something is done to links only.
    fn nothing_moves(&mut self, node: usize, cut: impl FnOnce(&mut Self)) -> Result<()> {
        let before: Vec<Place> =
            (0..self.cluster.nodes.len()).flat_map(|node| self.held_by(node)).collect();
        cut(self);
        self.rest(3_000, 9_000);
        let after: Vec<Place> =
            (0..self.cluster.nodes.len()).flat_map(|node| self.held_by(node)).collect();
        self.load.event(&format!("around node {}: {before:?}, {after:?}", self.name(node)));
        let stolen: Vec<&Place> = before.iter().filter(|place| !after.contains(place)).collect();
        ensure!(stolen.is_empty(), "taken over, though its owner beats: {stolen:?}, now {after:?}");
        Ok(())
    }

    /// Waits until others have what a node had.
    fn taken_over(&self, node: usize, held: &[Place]) -> Result<()> {
        let (began, name) = (Instant::now(), self.name(node));
        let asked = (node + 1) % self.cluster.nodes.len();
        let mut left: Vec<&Place> = held.iter().collect();
        let taken = within(TAKE_OVER, || {
            left.retain(|place| {
                let now = self.place(asked, place.account);
                now.is_none_or(|now| now.node == name || now.epoch <= place.epoch)
            });
            (left.is_empty() || self.load.is_over()).then_some(())
        });
        let (of, left) = (held.len(), left);
        let taken_over = of - left.len();
        self.load
            .event(&format!("{taken_over} of {of} accounts taken over in {:.1?}", began.elapsed()));
        taken.with_context(|| format!("not taken over: {left:?}"))
    }

    /// What a node says that it has open itself.
    fn held_by(&self, node: usize) -> Vec<Place> {
        let name = self.name(node);
        let places = (0..self.load.accounts.len()).filter_map(|account| self.place(node, account));
        places.filter(|place| place.node == name).collect()
    }

    /// Where a node says that an account is open.
    fn place(&self, asked: usize, account: usize) -> Option<Place> {
        let user = &self.load.accounts[account];
        let said = self.cluster.nodes[asked].command(&["mailbox", "where", "--user", user], "");
        let said = said.ok()?.into_iter().next()?;
        let node = said["node"].as_str()?.to_owned();
        Some(Place { account, node, epoch: said["epoch"].as_u64().unwrap_or(0) })
    }

    /// Everything runs, and every way is open.
    pub(super) fn mend(&mut self) -> Result<()> {
        let proxies = self.cluster.proxies().clone();
        for number in 0..self.cluster.nodes.len() {
            proxies.around(number, Flow::Pass);
            proxies.storage(number).set(Flow::Pass);
            proxies.storage(number).release();
            let node = &mut self.cluster.nodes[number];
            if let Some(status) = node.ended_by_itself() {
                self.load.goes_down(number);
                node.kill();
                self.load.wrong_with_all(format!("node {} ended by itself: {status}", node.name));
            }
            match node.pid() {
                // It fails only where it has just ended by itself.
                Some(_) => node.resume()?,
                None => {
                    node.start()?;
                    self.load.event(&format!("node {} is started", node.name));
                    self.load.is_up(number, (node.imap, node.lmtp));
                }
            }
        }
        Ok(())
    }

    fn name(&self, node: usize) -> String {
        self.cluster.nodes[node].name.clone()
    }

    fn black_hole_or_cut(&mut self) -> Flow {
        let flow = [Flow::Halt, Flow::Cut][self.random.below(2) as usize];
        self.load.event(&format!("the way: {flow:?}"));
        flow
    }

    /// Lets clients go on for a time between two bounds, in milliseconds.
    pub(super) fn rest(&mut self, from: u64, to: u64) {
        let time = Duration::from_millis(from + self.random.below(to - from));
        // Whether the run ends meanwhile or not.
        let _ = within(time, || self.load.is_over().then_some(()));
    }
}
