//! What a session's node has seen of a mailbox: an answer from before that is refused. It protects
//! against an owner that has not noticed yet that it is none.

use crate::types::{Epoch, ModSeq};

/// How far a session has seen the account that it has active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen {
    epoch: Option<Epoch>,
    modseq: ModSeq,
}

/// The answer is older than what the session has seen: drop it, and make the call again under the same
/// transaction id after looking at the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an answer of epoch {} comes after one of epoch {}", .epoch.0, .seen.0)]
pub struct Behind {
    /// The answer's.
    pub epoch: Epoch,
    /// The highest seen.
    pub seen: Epoch,
}

impl Seen {
    /// Takes an answer's epoch and the account's mod-sequence that it shows.
    ///
    /// # Errors
    /// [`Behind`] when either is lower than seen before; nothing has changed then.
    pub fn admit(&mut self, epoch: Epoch, modseq: ModSeq) -> Result<(), Behind> {
        match self.epoch {
            Some(seen) if epoch < seen || modseq < self.modseq => Err(Behind { epoch, seen }),
            Some(_) | None => {
                *self = Self { epoch: Some(epoch), modseq };
                Ok(())
            }
        }
    }

    /// The highest mod-sequence seen.
    pub fn modseq(&self) -> ModSeq {
        self.modseq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_epoch_nor_the_mod_sequence_goes_back() {
        let mut seen = Seen::default();
        assert_eq!(seen.admit(Epoch(2), ModSeq(5)), Ok(()));
        assert_eq!(seen.admit(Epoch(2), ModSeq(5)), Ok(()), "nothing has happened between");
        assert!(seen.admit(Epoch(1), ModSeq(9)).is_err());
        assert!(seen.admit(Epoch(2), ModSeq(4)).is_err());
        assert!(seen.admit(Epoch(3), ModSeq(4)).is_err(), "a new owner sees what was committed");
        assert_eq!(seen.modseq(), ModSeq(5));
        assert_eq!(seen.admit(Epoch(3), ModSeq(6)), Ok(()));
    }
}
