//! Proxies in user space, through which the nodes of a test reach each other and PostgreSQL. Each direction
//! of each pair of nodes can be cut, halted or delayed by itself, and so can each node's way to storage.
//!
//! All nodes reach one at the same address (`cluster.advertise` is one for all). Who it is that dials, a
//! link's proxy finds out by looking which node's process has the other end of the connection, in `/proc`.
//! Network namespaces would do the same in the kernel, but only for root.

pub mod carry;
pub mod link;
pub mod message;
pub mod source;
pub mod storage;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use tokio::sync::watch;

pub use carry::Flow;
pub use link::LinkProxy;
pub use storage::{StorageProxy, Trap, Verdict};

/// The ways between nodes, and whose processes they are.
pub struct Net {
    /// By source, then by target.
    ways: Vec<Vec<watch::Sender<Flow>>>,
    /// Of each node; 0: it does not run.
    pids: Vec<AtomicU32>,
}

impl Net {
    fn new(nodes: usize) -> Self {
        let way = |_| watch::channel(Flow::Pass).0;
        Self {
            ways: (0..nodes).map(|_| (0..nodes).map(way).collect()).collect(),
            pids: (0..nodes).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    fn way(&self, from: usize, to: usize) -> watch::Receiver<Flow> {
        self.ways[from][to].subscribe()
    }

    /// Which node dialed from `local` to `remote`, if one did that still runs.
    fn source(&self, local: SocketAddr, remote: SocketAddr) -> Option<usize> {
        let inode = source::socket(local, remote)?;
        let has = |pid: &AtomicU32| match pid.load(Ordering::Relaxed) {
            0 => false,
            pid => source::holds(pid, inode),
        };
        self.pids.iter().position(has)
    }
}

/// All proxies of a cluster. They go with this value.
pub struct Proxies {
    net: Arc<Net>,
    links: Vec<LinkProxy>,
    storage: Vec<StorageProxy>,
    runtime: tokio::runtime::Runtime,
}

impl Proxies {
    /// For nodes whose links listen at these addresses, over the PostgreSQL whose socket is `server`. Each
    /// node's own socket is in its folder of `folders`. No link's proxy takes connections yet.
    pub fn start(links: &[SocketAddr], folders: &[PathBuf], server: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()?;
        let net = Arc::new(Net::new(links.len()));
        let made = links.iter().enumerate();
        let links =
            made.map(|(node, address)| LinkProxy::new(node, *address)).collect::<Result<_>>()?;
        let _inside = runtime.enter();
        let storage = folders.iter().map(|folder| StorageProxy::start(folder, server));
        let storage = storage.collect::<Result<_>>().context("a proxy before PostgreSQL")?;
        Ok(Self { net, links, storage, runtime })
    }

    /// Where the others reach a node.
    pub fn address(&self, node: usize) -> SocketAddr {
        self.links[node].address
    }

    /// Before a node's process is started: its address takes connections.
    pub fn opens(&self, node: usize) -> Result<()> {
        self.links[node].open(&self.runtime, &self.net)
    }

    /// A node's process has this id.
    pub fn runs(&self, node: usize, pid: u32) {
        self.net.pids[node].store(pid, Ordering::Relaxed);
    }

    /// A node's process ends: its address refuses connections from now on, as that of a host without such
    /// a process would.
    pub fn ends(&self, node: usize) {
        self.links[node].close(&self.runtime);
        self.net.pids[node].store(0, Ordering::Relaxed);
    }

    /// Sets what happens to what one node sends to another one, whoever has dialed.
    pub fn way(&self, from: usize, to: usize, flow: Flow) {
        self.net.ways[from][to].send_replace(flow);
    }

    /// Sets what happens between a node and all others, both ways.
    pub fn around(&self, node: usize, flow: Flow) {
        for other in (0..self.links.len()).filter(|other| *other != node) {
            self.way(node, other, flow);
            self.way(other, node, flow);
        }
    }

    /// A node's way to storage.
    pub fn storage(&self, node: usize) -> &StorageProxy {
        &self.storage[node]
    }
}
