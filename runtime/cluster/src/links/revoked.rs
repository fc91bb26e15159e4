//! Spreads what is revoked: whoever makes a link, or measures it, hears a digest of the peer's list; when it
//! is another than its own both lists are exchanged. Only what the cluster's authority has signed is told or
//! taken ([`crate::certificates`]), so it does not matter by whom it was brought.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use tokio::time::timeout;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use super::large;
use super::wire::{CHUNK_OCTETS, Frame, Kind, REVOKED, path};
use crate::certificates::{Credentials, MAX_LIST_OCTETS, NotTaken};

const _: () = assert!(MAX_LIST_OCTETS <= CHUNK_OCTETS, "a list is one message");

/// How long an exchange may take.
const EXCHANGE_TIME: Duration = Duration::from_secs(5);

/// What is remembered of a peer, so that nothing is asked or told in vain: both digests, ours first.
#[derive(Default)]
pub(super) struct Exchanged {
    /// When lists were last exchanged: as long as they stay so there is nothing to hear.
    done: Option<(Bytes, Bytes)>,
    /// When it was last told in the log that a list could not be taken up.
    told: Option<(Bytes, Bytes)>,
}

/// This node's digest, for a peer.
pub(super) fn digest(credentials: &Credentials) -> Bytes {
    Bytes::copy_from_slice(&credentials.current().spread.digest())
}

/// Exchanges lists with a peer whose digest is `theirs`, if that is to any use. What goes wrong is tried
/// again at the next look.
pub(super) async fn exchange(
    grpc: Grpc<Channel>,
    credentials: &Arc<Credentials>,
    theirs: Bytes,
    known: &mut Exchanged,
) {
    let ours = digest(credentials);
    let digests = Some((ours.clone(), theirs.clone()));
    // An older version says none.
    if theirs.is_empty() || theirs == ours || known.done == digests {
        return;
    }
    match timeout(EXCHANGE_TIME, ask(grpc, credentials)).await {
        Ok(Ok(list)) => match take(credentials, list).await {
            Ok(()) => known.done = Some((digest(credentials), theirs)),
            Err(NotTaken::Busy) => tracing::debug!("revocations are taken up the next time"),
            Err(why) if known.told != digests => {
                tracing::warn!(%why, "not all that a peer knows as revoked is taken up");
                known.told = digests;
            }
            Err(_) => {}
        },
        Ok(Err(error)) => tracing::debug!(error, "revocations are not exchanged"),
        Err(_) => tracing::debug!("revocations are not exchanged in time"),
    }
}

pub(super) async fn ask(
    mut grpc: Grpc<Channel>,
    credentials: &Credentials,
) -> Result<Bytes, String> {
    grpc.ready().await.map_err(|error| error.to_string())?;
    let sent = stream::iter([Frame::from(Kind::Revoked(list(credentials)))]);
    let answer = grpc.streaming(Request::new(sent), path(REVOKED), ProstCodec::default()).await;
    let mut frames = answer.map_err(|status| status.to_string())?.into_inner();
    let first = frames.message().await.map_err(|status| status.to_string())?;
    let Some(Frame { kind: Some(Kind::Revoked(list)) }) = first else {
        return Err("the peer does not say what it knows as revoked".to_owned());
    };
    large::finish(&mut frames).await.map_err(|error| error.to_string())?;
    Ok(list)
}

/// What this node tells.
pub(super) fn list(credentials: &Credentials) -> Bytes {
    credentials.current().spread.to_text().into()
}

/// Takes a peer's list up; the error says what is wrong with it.
pub(super) async fn take(credentials: &Arc<Credentials>, list: Bytes) -> Result<(), NotTaken> {
    let text = String::from_utf8(list.into());
    let text = text.map_err(|_| NotTaken::Nonsense("it is no text".to_owned()))?;
    let turn = credentials.turn().ok_or(NotTaken::Busy)?;
    let credentials = credentials.clone();
    // Reads and writes files. Whoever asks may give up meanwhile; the turn ends with the work.
    let taken = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        credentials.take_revocations(&text)
    });
    let taken = taken.await;
    taken.map_err(|error| NotTaken::NotKept(error.to_string()))?
}
