//! Gossip's datagrams to one peer: one stream for as long as the link lasts. What finds no room, or
//! no link, is dropped: gossip says everything again.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::wire::{Frame, GOSSIP, Kind};

/// How many datagrams wait for the link. Gossip sends a few in a round; what is older than a round
/// is of no use.
const WAITING: usize = 16;

/// Starts to carry datagrams over `link` until `stop`.
pub(super) fn start(link: &Arc<Link>, stop: CancellationToken) -> mpsc::Sender<Bytes> {
    let (give, take) = mpsc::channel(WAITING);
    tokio::spawn(run(Arc::downgrade(link), take, stop));
    give
}

async fn run(link: Weak<Link>, mut waiting: mpsc::Receiver<Bytes>, stop: CancellationToken) {
    while let Some(Some(first)) = stop.run_until_cancelled(waiting.recv()).await {
        let Some(link) = link.upgrade() else { return };
        let (give, sent) = mpsc::channel(WAITING);
        give.try_send(Kind::Datagram(first).into()).expect("the channel is new");
        // The answer comes at once, its end when the link breaks.
        let Ok(mut frames) = link.stream(GOSSIP, sent).await else {
            // Whatever waited so long is old.
            while waiting.try_recv().is_ok() {}
            continue;
        };
        drop(link);
        let copy = async {
            while let Some(datagram) = waiting.recv().await {
                let frame: Frame = Kind::Datagram(datagram).into();
                if give.send(frame).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = copy => {}
            _ = frames.message() => {}
            () = stop.cancelled() => {}
        }
    }
}
