//! Keeps a link that was needed once: watches for its end, makes it again, and says what that tells of the
//! peer's process. So a process that was killed is known to be gone without a call being made: its end of
//! the link breaks, and nobody listens when the link is made again at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep_until;

use super::api::LinkError;
use super::link::{Link, State, back_off};
use crate::names::NodeId;

/// A link that stood for less than this counts as a failure: a peer that takes links and breaks them is
/// not dialed without a pause.
const SOUND_AFTER: Duration = Duration::from_secs(1);

/// What this node's link to a peer says of the peer's process. An opinion of one node about one address:
/// nobody loses anything by it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Presence {
    /// A link stands, or has broken and is being made again.
    Reachable,
    /// Nobody listens at the peer's address: its process is not there.
    Refusing,
    /// No link can be made, for a reason that says nothing about the process: no answer, no way there, a
    /// certificate that is not taken.
    Silent,
}

/// What is known of all peers.
pub(super) type Presences = Arc<BTreeMap<NodeId, Presence>>;

/// Where presences are told.
pub(super) type Board = Arc<watch::Sender<Presences>>;

/// Says how a peer is, or (`None`) that it is not known any more. `wanted` is asked while nobody else
/// writes.
pub(super) fn post(
    board: &Board,
    peer: &NodeId,
    presence: Option<Presence>,
    wanted: impl FnOnce() -> bool,
) {
    board.send_if_modified(|known| {
        if known.get(peer).copied() == presence || !wanted() {
            return false;
        }
        let known = Arc::make_mut(known);
        match presence {
            Some(presence) => known.insert(peer.clone(), presence),
            None => known.remove(peer),
        };
        true
    });
}

/// What a link's state says; `None` when it says nothing new.
fn presence_of(state: &State) -> Option<Presence> {
    match state {
        State::Idle | State::Dialing => None,
        State::Up(_) => Some(Presence::Reachable),
        State::Down { why: LinkError::Refused, .. } => Some(Presence::Refusing),
        State::Down { .. } => Some(Presence::Silent),
    }
}

/// Keeps a link until it is stopped.
pub(super) async fn keep(link: Arc<Link>) {
    let stop = link.stopped();
    stop.run_until_cancelled(run(link)).await;
}

async fn run(link: Arc<Link>) {
    let mut states = link.states();
    // How many links in a row did not stand for long.
    let mut short = 0;
    loop {
        let state = states.borrow_and_update().clone();
        if let Some(presence) = presence_of(&state) {
            link.post(presence);
        }
        match state {
            State::Dialing => {}
            State::Down { until, .. } => {
                tokio::select! {
                    () = sleep_until(until) => link.start_dialing(),
                    _ = states.changed() => {}
                }
                continue;
            }
            State::Idle => link.start_dialing(),
            State::Up(connection) => {
                let (cord, since) = (connection.cord.clone(), connection.since);
                // Not held: a link that is replaced ends when its last call does.
                drop(connection);
                tokio::select! {
                    () = cord.gone.cancelled() => {}
                    () = cord.cut.cancelled() => {}
                    _ = states.changed() => continue,
                }
                short = if since.elapsed() < SOUND_AFTER { short + 1 } else { 0 };
                if short > 1 {
                    tokio::time::sleep(back_off(short - 1)).await;
                }
                link.start_dialing();
            }
        }
        // We hold the link, and so the sender: it cannot be closed.
        let _ = states.changed().await;
    }
}
