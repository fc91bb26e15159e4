//! The shared generator of names and ids (E17): 128 bits, ascending with time, random.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Mints 128-bit ids: 48 bits of milliseconds since the Unix epoch, then 80 random ones. Each is
/// larger than the one before, also when the clock stands still or goes back.
#[derive(Default)]
pub struct Mint {
    last: Mutex<u128>,
}

impl Mint {
    /// The next id.
    pub fn next(&self) -> [u8; 16] {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        let random = u128::from_be_bytes(random());
        self.after(millis, random)
    }

    fn after(&self, millis: u128, random: u128) -> [u8; 16] {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = millis << 80 | random >> 48;
        // A step of up to 2^64 keeps ids of the same millisecond hard to guess.
        let step = u128::from(random as u64) + 1;
        *last = if fresh > *last { fresh } else { last.wrapping_add(step) };
        last.to_be_bytes()
    }
}

/// Sixteen random octets.
pub fn random() -> [u8; 16] {
    let mut octets = [0; 16];
    // Without randomness ids could repeat: nothing may go on.
    getrandom::fill(&mut octets).expect("the operating system provides randomness");
    octets
}

/// Seconds since the Unix epoch.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_when_the_clock_stands_still_or_goes_back() {
        let mint = Mint::default();
        let mut last = [0; 16];
        for millis in [1_000, 1_000, 999, 1, 1_001] {
            let next = mint.after(millis, u128::from_be_bytes(random()));
            assert!(next > last, "{millis}");
            last = next;
        }
        assert!(mint.next() < mint.next());
    }
}
