//! Room that is set aside while there is some. On a full disk it is let go: then there is room to remove
//! mail, and nothing else is let in until it can be set aside again.

use std::io;
use std::time::{Duration, Instant};

use super::group::Work;
use crate::Write;
use crate::files::Files;

/// The file that takes the room.
pub const RESERVE_FILE: &str = "reserve";
/// Octets that are set aside, unless the engine is opened with another number: some thousand commits
/// that remove mail, with the checkpoints that give its room back.
pub const RESERVE_OCTETS: u64 = 16 << 20;
/// Octets that are written at a time.
const BLOCK_OCTETS: usize = 1 << 20;

/// The room.
pub struct Reserve {
    octets: u64,
    pause: Duration,
    state: State,
}

enum State {
    /// It is set aside.
    Held,
    /// It was let go when so many octets had been appended to the log.
    Gone { log: u64, not_before: Option<Instant> },
}

impl Reserve {
    /// Nothing is set aside yet. Whether it can be is tried once in `pause`.
    pub fn new(octets: u64, pause: Duration) -> Self {
        Self { octets, pause, state: State::Gone { log: 0, not_before: None } }
    }

    /// Whether mail can only be removed.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone { .. })
    }

    /// Sets the room aside if it is not. After so many octets of log. False: there is none.
    pub fn hold(&mut self, files: &dyn Files, log: u64) -> bool {
        match self.state {
            State::Held => return true,
            State::Gone { not_before: Some(then), .. } if Instant::now() < then => return false,
            State::Gone { .. } => {}
        }
        match set_aside(files, self.octets) {
            Ok(()) => {
                self.state = State::Held;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "no room can be set aside: mail can only be removed");
                let _ = files.remove(RESERVE_FILE);
                let log = match self.state {
                    State::Gone { log: before, not_before: Some(_) } => before,
                    _ => log,
                };
                let not_before = Some(Instant::now() + self.pause);
                self.state = State::Gone { log, not_before };
                false
            }
        }
    }

    /// Lets it go. False: it was gone already.
    pub fn let_go(&mut self, files: &dyn Files, log: u64) -> bool {
        let held = !self.is_gone();
        if held {
            tracing::error!("the disk is full: mail can only be removed until there is room again");
            if let Err(error) = files.remove(RESERVE_FILE) {
                tracing::error!(%error, "the reserve cannot be let go");
            }
            self.state = State::Gone { log, not_before: Some(Instant::now() + self.pause) };
        }
        held
    }

    /// Whether work may be done while it is gone, after so many octets of log: what removes mail; and
    /// what is needed for that (marks, claims) as long as half of the room is left.
    pub fn admits(&self, work: &Work, log: u64) -> bool {
        let State::Gone { log: begun, .. } = self.state else { return true };
        let spent = log.saturating_sub(begun);
        match work {
            Work::Claim { .. } | Work::Release(_) | Work::Segments(_) => true,
            Work::Commit(commit) => {
                let brings = |write: &Write| matches!(write, Write::LinkBody { .. });
                !commit.writes.iter().any(brings) && (work.unlinks() || spent < self.octets / 2)
            }
        }
    }
}

/// Takes room by writing: a length alone takes none. There must be a little more than that, or it would be
/// let go again at once.
fn set_aside(files: &dyn Files, octets: u64) -> io::Result<()> {
    let file = files.open(RESERVE_FILE)?;
    let (mut at, more) = (file.len()?, octets + octets / 4);
    while at < more {
        let block = vec![0; BLOCK_OCTETS.min((more - at) as usize)];
        file.write_at(at, &block)?;
        at += block.len() as u64;
    }
    // Some file systems find out only now that there is no room.
    file.sync()?;
    file.set_len(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::image::ImageDisk;

    #[test]
    fn room_that_is_let_go_is_there_for_others_and_is_taken_again() {
        const OCTETS: u64 = 64 << 10;
        let disk = ImageDisk::new();
        let files = disk.files();
        let mut reserve = Reserve::new(OCTETS, Duration::ZERO);
        assert!(reserve.hold(&*files, 0) && !reserve.is_gone());
        disk.set_free_room(Some(0));
        let other = files.open("other").unwrap();
        assert!(other.write_at(0, &[1; OCTETS as usize]).is_err());
        assert!(reserve.let_go(&*files, 0) && reserve.is_gone());
        assert!(other.write_at(0, &[1; OCTETS as usize]).is_ok(), "the room is there");
        assert!(!reserve.hold(&*files, 0), "and is taken");
        disk.set_free_room(None);
        assert!(reserve.hold(&*files, 0) && !reserve.is_gone());
    }
}
