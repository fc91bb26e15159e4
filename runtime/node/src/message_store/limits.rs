//! The named maxima of the message store. Each bounds memory, work or waiting.

use std::time::Duration;

use crate::mailbox::limits::STEP_DEADLINE;

/// How long one waits for what may never come. Tests have less patience.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// With a commit.
    pub commit: Duration,
    /// With a write, repeats included.
    pub write: Duration,
    /// With the changes of the directory that come before one's own.
    pub directory: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { commit: STEP_DEADLINE, write: WRITE_DEADLINE, directory: DIRECTORY_PATIENCE }
    }
}

/// Most messages in one answer to FETCH; the caller asks again.
pub const MAX_FETCH_ROWS: usize = 8_192;
/// Most messages in one answer with more than what the index knows: as many as can be expected to
/// fit [`MAX_FETCH_OCTETS`], so that few are looked at for the next answer to look at them again.
pub const MAX_CONTENT_ROWS: usize = 2_048;
/// Octets of bodies, headers and derived data in one answer to FETCH; one message is answered even if
/// larger.
pub const MAX_FETCH_OCTETS: u64 = 4 << 20;
/// Messages whose bodies one call reads at a time.
pub const PARALLEL_BODIES: usize = 8;
/// Octets of bodies that one call holds at a time where it only looks at them; one larger message is
/// looked at alone.
pub const MAX_RUN_OCTETS: u64 = 4 << 20;
/// Messages looked at in one page of SEARCH.
pub const SEARCH_PAGE: usize = 4_096;
/// Bodies that are read for FETCH and SEARCH at a time in the whole node, in MiB, each call counted
/// as one at least: twice the largest message. Others wait for [`HEAVY_PATIENCE`].
pub const MAX_HEAVY_READS: u32 = 512;
/// How long a call waits for its turn to read bodies.
pub const HEAVY_PATIENCE: Duration = Duration::from_secs(30);
/// Octets of messages from which they are parsed off the async threads.
pub const LARGE_MESSAGE: usize = 64 << 10;
/// Octets of derived data and headers that are kept, by default.
pub const DERIVED_CACHE_OCTETS: u64 = 64 << 20;
/// How often a write whose outcome is unknown is asked for again under its transaction id. Nobody
/// above repeats it once more.
pub const MAX_REPEATS: usize = 4;
/// Pause before the first of them; each is four times the one before.
pub const FIRST_REPEAT: Duration = Duration::from_millis(20);
/// How long a write may take, repeats included. An MTA waits ten minutes for the answer to its
/// message (RFC 5321 §4.5.3.2.6), and delivers it twice when it has given up.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(180);
/// Largest header that is kept, in octets: larger ones are cut out of the body each time.
pub const MAX_KEPT_HEADER: usize = 64 << 10;
/// Passwords that are checked or hashed at a time beyond the number of processors: others are
/// refused as busy. Argon2 takes 19 MiB for each that runs.
pub const MAX_WAITING_PASSWORDS: usize = 256;
/// Passwords that were found right, remembered under a keyed hash.
pub const VERIFIED_PASSWORDS: usize = 10_000;
/// How long they are remembered.
pub const VERIFIED_FOR: Duration = Duration::from_secs(600);
/// Users and domains that are remembered.
pub const DIRECTORY_CACHE: usize = 20_000;
/// How long a user or domain that was read is used without reading it again.
pub const DIRECTORY_FRESH: Duration = Duration::from_secs(5);
/// Longest chain of aliases: a longer one is a mistake or a circle.
pub const MAX_ALIAS_DEPTH: usize = 8;
/// Longest user name or address in octets (RFC 5321 §4.5.3.1: 64 + 1 + 255).
pub const MAX_ADDRESS_OCTETS: usize = 320;
/// How often a change of the directory is tried again because another came before it.
pub const MAX_DIRECTORY_ATTEMPTS: usize = 16;
/// How long a change of the directory waits for those before it.
pub const DIRECTORY_PATIENCE: Duration = Duration::from_secs(30);
/// Part of the time of a write that the hooks before a delivery have, one after the other: the commit
/// has the rest.
pub const HOOKS_SHARE: u32 = 2;
/// Deliveries of which hooks are still to be told: of more than that none is.
pub const MAX_UNTOLD: usize = 1_024;
/// How long a stop waits until hooks have been told.
pub const TELLING_PATIENCE: Duration = Duration::from_secs(10);
/// Records in one page of a list or an export.
pub const LIST_PAGE: u32 = 500;
