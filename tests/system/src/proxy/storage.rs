//! The proxy before PostgreSQL, one for each node. It reads along, and can catch the node at a commit.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::carry::{Flow, cut, passes};
use super::message::{Commits, Message};

/// What PostgreSQL's socket is called in its folder.
pub const SOCKET: &str = ".s.PGSQL.5432";

/// Where the next commit of a node is caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// The statement goes to the server, its answer does not come back.
    Answer,
    /// The statement does not reach the server.
    Statement,
}

/// What the server has said to a statement that was held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was carried out.
    Done,
    /// An error with this code.
    Refused(String),
    /// The connection ended.
    Lost,
}

/// How far a trap is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// There is none.
    Open,
    /// It waits for a commit.
    Armed(Trap),
    /// A commit is on its way to the server; its answer is caught.
    Entered,
    /// It holds one.
    Caught,
    /// What it held goes on.
    Released,
    /// The server has answered.
    Answered(Verdict),
}

/// One node's way to storage.
pub struct StorageProxy {
    flow: watch::Sender<Flow>,
    step: Arc<watch::Sender<Step>>,
    folder: PathBuf,
}

impl StorageProxy {
    /// Listens in a folder of its own for what is to go to the socket `server`. Within a runtime.
    pub fn start(folder: &Path, server: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let listener = UnixListener::bind(folder.join(SOCKET)).context("its socket")?;
        let flow = watch::channel(Flow::Pass).0;
        let step = Arc::new(watch::channel(Step::Open).0);
        let watched = flow.subscribe();
        tokio::spawn(accept(listener, server.to_owned(), watched, step.clone()));
        Ok(Self { flow, step, folder: folder.to_owned() })
    }

    /// The folder of its socket: the `host` of a connection.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sets what happens to both ways.
    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    /// Catches the next commit.
    pub fn arm(&self, trap: Trap) {
        self.step.send_replace(Step::Armed(trap));
    }

    /// Whether one has been caught.
    pub fn has_caught(&self) -> bool {
        *self.step.borrow() == Step::Caught
    }

    /// Lets go what it holds; without anything, it catches nothing more.
    pub fn release(&self) {
        self.step.send_modify(|step| {
            *step = match step {
                Step::Caught | Step::Entered => Step::Released,
                Step::Answered(_) | Step::Released => return,
                Step::Open | Step::Armed(_) => Step::Open,
            };
        });
    }

    /// What the server has said to what was let go.
    pub fn verdict(&self) -> Option<Verdict> {
        match &*self.step.borrow() {
            Step::Answered(verdict) => Some(verdict.clone()),
            _ => None,
        }
    }
}

async fn accept(
    listener: UnixListener,
    server: PathBuf,
    flow: watch::Receiver<Flow>,
    step: Arc<watch::Sender<Step>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((near, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let (server, flow, step) = (server.clone(), flow.clone(), step.clone());
        connections.spawn(async move {
            // A server that is away closes the connection, as one that is cut does.
            let Ok(far) = UnixStream::connect(server).await else { return };
            let connection =
                Connection { flow: flow.clone(), step, caught: watch::channel(false).0 };
            // However it ends, both ends go.
            tokio::select! {
                _ = connection.run(near, far) => {}
                _ = cut(flow) => {}
            }
            connection.answered(Verdict::Lost);
        });
    }
}

struct Connection {
    flow: watch::Receiver<Flow>,
    step: Arc<watch::Sender<Step>>,
    /// Whether the trap's commit is this connection's.
    caught: watch::Sender<bool>,
}

impl Connection {
    async fn run(&self, mut near: UnixStream, mut far: UnixStream) -> io::Result<()> {
        let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.split(), far.split());
        let there = async {
            let (mut commits, mut first) = (Commits::default(), true);
            while let Some(message) = Message::read(&mut near_in, first).await? {
                first = false;
                if commits.begins(&message) {
                    self.commit_begins().await;
                }
                self.forward(&mut far_out, &message).await?;
                if message.kind() == Some(b'S') {
                    self.has_gone();
                }
            }
            far_out.shutdown().await
        };
        let back = async {
            while let Some(message) = Message::read(&mut far_in, false).await? {
                self.answer_comes().await;
                match message.error_code() {
                    Some(code) => self.answered(Verdict::Refused(code)),
                    None if message.kind() == Some(b'C') => self.answered(Verdict::Done),
                    None => {}
                }
                self.forward(&mut near_out, &message).await?;
            }
            near_out.shutdown().await
        };
        tokio::try_join!(there, back).map(|_| ())
    }

    async fn forward(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        message: &Message,
    ) -> io::Result<()> {
        passes(&mut self.flow.clone()).await;
        to.write_all(&message.octets).await
    }

    /// A commit is about to be sent: the trap may want it.
    async fn commit_begins(&self) {
        let mut waits = false;
        let taken = self.step.send_if_modified(|step| {
            let Step::Armed(trap) = *step else { return false };
            waits = trap == Trap::Statement;
            *step = if waits { Step::Caught } else { Step::Entered };
            true
        });
        if taken {
            self.caught.send_replace(true);
        }
        if waits {
            self.released().await;
        }
    }

    /// All of it is with the server.
    fn has_gone(&self) {
        if *self.caught.borrow() {
            self.step.send_if_modified(|step| {
                let entered = *step == Step::Entered;
                if entered {
                    *step = Step::Caught;
                }
                entered
            });
        }
    }

    /// An answer comes: it waits with the trap.
    async fn answer_comes(&self) {
        if *self.caught.borrow() {
            self.released().await;
        }
    }

    fn answered(&self, verdict: Verdict) {
        if self.caught.send_replace(false) {
            self.step.send_replace(Step::Answered(verdict));
        }
    }

    async fn released(&self) {
        let still = |step: &Step| matches!(step, Step::Caught | Step::Entered);
        // It fails only when the proxies go.
        let _ = self.step.subscribe().wait_for(|step| !still(step)).await;
    }
}

#[cfg(test)]
mod tests;
