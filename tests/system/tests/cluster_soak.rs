//! Some seconds of the soak: what was acknowledged is there, no attempt is there twice, no UID means two things,
//! and nothing goes back in any client's record. `cargo xtask soak` does it for longer, and takes more apart.
//! `POSTROOM_SEED` replays the choices of a run, `POSTROOM_SECONDS` sets its length.

use std::time::Duration;

use postroom_system::soak::fault::Fault;
use postroom_system::soak::{self, Options};

/// How long a run is that nobody asked to be longer, in seconds.
const SECONDS: u64 = 25;

#[test]
fn what_was_acknowledged_is_there_whatever_happens_to_nodes_and_database() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let (seed, seconds) = (number("POSTROOM_SEED", 1), number("POSTROOM_SECONDS", SECONDS));
    println!("POSTROOM_SEED={seed} POSTROOM_SECONDS={seconds}");
    soak::small(|small| Options {
        seed,
        time: Duration::from_secs(seconds),
        // Versions of the store component have a test of their own.
        faults: Fault::of_cluster(),
        ..small
    });
}
