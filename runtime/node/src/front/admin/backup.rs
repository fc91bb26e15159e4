//! A backup on the wire: a line of JSON for each piece, and after a line of octets these as they are. A
//! stream that does not finish with `done` was cut off. For both ends.
//!
//! ```text
//! {"file":"snapshot"}
//! {"octets":8192}
//! …
//! {"done":null}
//! ```

use std::io::{BufRead, Read};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::failure::{Refusal, failure};
use super::transfer::transfer;
use super::wire::Failure;
use crate::mailbox::error::storage_error;
use crate::storage::keeping::{Backup, BackupPiece};

/// The media type of such a stream.
const MEDIA_TYPE: &str = "application/x-postroom-backup";
/// Longest line, in octets: a name of a file, or why it failed.
const MAX_LINE_OCTETS: u64 = 64 << 10;
/// Most octets after one line: more than any node sends.
const MAX_PIECE_OCTETS: usize = 64 << 20;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    /// A file of this name begins.
    File(String),
    /// So many octets of it follow.
    Octets(usize),
    /// That was all.
    Done(()),
    /// It cannot go on.
    Failed(Failure),
}

/// Why a piece could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection, or the node.
    #[error("the node's answer was cut off ({0}); is the node still running?")]
    Cut(#[from] std::io::Error),
    /// The node says so.
    #[error("{0}")]
    Failed(String),
    /// It is no backup.
    #[error("the node's answer is no backup")]
    Foreign,
}

/// Sends a backup, as fast as the other side takes it.
pub(super) async fn backup(State(shared): State<Shared>) -> Result<Response, Refusal> {
    let permit = transfer(&shared)?;
    let pieces = shared.admin.operations.backup().await?;
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], Body::from_stream(lines(pieces, permit))).into_response())
}

fn lines(
    pieces: Backup,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    let each = stream::unfold((pieces, permit), |(mut pieces, permit)| async move {
        let said = match pieces.recv().await? {
            Ok(BackupPiece::File(name)) => vec![to_line(&Line::File(name))],
            Ok(BackupPiece::Octets(octets)) => vec![to_line(&Line::Octets(octets.len())), octets],
            Ok(BackupPiece::Done) => vec![to_line(&Line::Done(()))],
            Err(error) => vec![to_line(&Line::Failed(failure(&storage_error(error))))],
        };
        Some((said, (pieces, permit)))
    });
    each.flat_map(|said| stream::iter(said.into_iter().map(Ok)))
}

fn to_line(line: &Line) -> Bytes {
    // Strings and numbers only: nothing that JSON could not hold.
    let mut text = serde_json::to_vec(line).expect("a line is plain data");
    text.push(b'\n');
    text.into()
}

/// Reads the next piece.
pub fn read(from: &mut impl BufRead) -> Result<BackupPiece, ReadError> {
    let mut text = Vec::new();
    from.by_ref().take(MAX_LINE_OCTETS).read_until(b'\n', &mut text)?;
    if text.last() != Some(&b'\n') {
        return Err(ReadError::Cut(std::io::ErrorKind::UnexpectedEof.into()));
    }
    match serde_json::from_slice(&text).map_err(|_| ReadError::Foreign)? {
        Line::File(name) => Ok(BackupPiece::File(name)),
        Line::Octets(count) if count > MAX_PIECE_OCTETS => Err(ReadError::Foreign),
        Line::Octets(count) => {
            let mut octets = vec![0; count];
            from.read_exact(&mut octets)?;
            Ok(BackupPiece::Octets(octets.into()))
        }
        Line::Done(()) => Ok(BackupPiece::Done),
        Line::Failed(failure) => Err(ReadError::Failed(failure.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_as_they_were_sent_and_a_cut_is_noticed() {
        let octets = Bytes::from_static(b"\n{\"done\":null}\n");
        let sent = [
            to_line(&Line::File("snapshot".to_owned())),
            to_line(&Line::Octets(octets.len())),
            octets.clone(),
            to_line(&Line::Done(())),
        ]
        .concat();
        let mut from = &sent[..];
        assert_eq!(read(&mut from).unwrap(), BackupPiece::File("snapshot".to_owned()));
        assert_eq!(read(&mut from).unwrap(), BackupPiece::Octets(octets));
        assert_eq!(read(&mut from).unwrap(), BackupPiece::Done);
        assert!(matches!(read(&mut from), Err(ReadError::Cut(_))));
        let mut cut = &sent[..sent.len() - 20];
        let ended = std::iter::from_fn(|| Some(read(&mut cut))).find(Result::is_err);
        assert!(matches!(ended, Some(Err(ReadError::Cut(_)))));
        assert!(matches!(read(&mut &b"HTTP\n"[..]), Err(ReadError::Foreign)));
    }
}
