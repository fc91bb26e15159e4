//! What the system tests share: the real program as a child process, small mail clients that say
//! exactly what the test says, and one bounded wait. Unlike a mail program, these clients never
//! repair anything: what the server sent is what the test sees.

pub mod cluster;
pub mod components;
pub mod eventually;
pub mod imap;
pub mod lmtp;
pub mod node;
pub mod proxy;
pub mod soak;
pub mod store_cluster;

pub use eventually::eventually;
pub use imap::ImapClient;
pub use lmtp::LmtpClient;
pub use node::Node;

/// A folder of the tests' own that goes away with its guard.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("postroom-test-").tempdir().expect("a temporary folder")
}

/// A small seeded generator (SplitMix64): the same seed gives the same run.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }
}
