//! A small generator of numbers (xorshift64*): the same for the same seed. Everything that is left to
//! chance in a run is asked of it, in the order of events.

use std::time::Duration;

pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1);
        // Neighbouring seeds begin alike.
        for _ in 0..8 {
            dice.number();
        }
        dice
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One of 0 to `end` - 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() >> 33) as usize % end.max(1)
    }

    /// True so many times in a thousand.
    pub fn permille(&mut self, of: usize) -> bool {
        self.below(1_000) < of
    }

    pub fn among<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len())])
    }

    /// So many microseconds, from the first to the second.
    pub fn micros(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from + self.number() % (to - from).max(1))
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        self.micros(from * 1_000, to * 1_000)
    }

    pub fn octets(&mut self) -> [u8; 16] {
        let (high, low) = (u128::from(self.number()), u128::from(self.number()));
        (high << 64 | low).to_be_bytes()
    }
}
