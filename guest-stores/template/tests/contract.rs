//! The contract of the WIT, over maps: no node is needed.

use my_store::MyStore;
use postroom_guest::testing::contract::Native;
use postroom_guest::testing::contract::random::{self, Faults};
use postroom_guest::testing::{Rng, block_on};
use postroom_guest::{User, record_contract};

fn subject() -> Native<MyStore> {
    Native::default()
}

record_contract!(users, User, block_on, subject());

#[test]
fn long_random_runs_agree_with_the_model() {
    for faults in [Faults::None, Faults::Any] {
        let (subject, mut rng) = (subject(), Rng::from_env(1));
        let run = random::records::<User, _>(&subject, &mut rng, 2000, faults);
        assert_eq!(block_on(run), Ok(()));
    }
}
