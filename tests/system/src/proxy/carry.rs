//! Carries octets one way, or does not.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Octets that are read at a time.
const CHUNK_OCTETS: usize = 16 << 10;
/// Chunks that are under way in a proxy, as a network has some in it. 1 MiB; then the sender waits.
const MAX_CHUNKS: usize = 64;

/// What happens to octets one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They arrive.
    Pass,
    /// They arrive after this time.
    Delay(Duration),
    /// They do not arrive, and nobody is told: a black hole. Afterwards they do, as TCP sends them again.
    Halt,
    /// Connections are reset, those that are made meanwhile too.
    Cut,
}

/// Comes back when a way is cut.
pub async fn cut(mut flow: watch::Receiver<Flow>) -> io::Error {
    // It fails only when the proxies go: then this connection does too.
    let _ = flow.wait_for(|flow| *flow == Flow::Cut).await;
    io::ErrorKind::ConnectionReset.into()
}

/// Comes back when octets may go on.
pub async fn passes(flow: &mut watch::Receiver<Flow>) {
    let _ = flow.wait_for(|flow| *flow != Flow::Halt).await;
}

/// Carries what comes until its end, and the end too.
pub async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    flow: watch::Receiver<Flow>,
) -> io::Result<()> {
    let (give, mut take) = mpsc::channel::<(Instant, Vec<u8>)>(MAX_CHUNKS);
    let delays = flow.clone();
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK_OCTETS];
            let octets = from.read(&mut chunk).await?;
            chunk.truncate(octets);
            let delay = match *delays.borrow() {
                Flow::Delay(time) => time,
                Flow::Pass | Flow::Halt | Flow::Cut => Duration::ZERO,
            };
            if octets == 0 || give.send((Instant::now() + delay, chunk)).await.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let mut gate = flow.clone();
    let write = async move {
        while let Some((due, chunk)) = take.recv().await {
            tokio::time::sleep_until(due).await;
            passes(&mut gate).await;
            to.write_all(&chunk).await?;
        }
        passes(&mut gate).await;
        to.shutdown().await
    };
    // Dropping the other branch loses octets that are under way: that is what a cut is.
    tokio::select! {
        done = async { tokio::try_join!(read, write) } => done.map(|_| ()),
        error = cut(flow) => Err(error),
    }
}
