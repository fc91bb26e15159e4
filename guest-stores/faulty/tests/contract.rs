//! Without settings it is a right store: the contract of the WIT, over maps.

use faulty::Faulty;
use postroom_guest::testing::contract::Native;
use postroom_guest::testing::contract::cases::damage::{self, Flips};
use postroom_guest::testing::contract::cases::random::{self, Faults};
use postroom_guest::testing::{Rng, block_on};
use postroom_guest::{Domain, Mailbox, User, message_contract, record_contract};

fn subject() -> Native<Faulty> {
    Native::default()
}

record_contract!(domains, Domain, block_on, subject());
record_contract!(users, User, block_on, subject());
record_contract!(mailboxes, Mailbox, block_on, subject());
message_contract!(messages, block_on, subject());

#[test]
fn long_random_runs_agree_with_the_model() {
    for faults in [Faults::None, Faults::Any] {
        let mut rng = Rng::from_env(1);
        let kept = [
            block_on(random::records::<Domain, _>(&subject(), &mut rng, 2000, faults)),
            block_on(random::records::<User, _>(&subject(), &mut rng, 2000, faults)),
            block_on(random::records::<Mailbox, _>(&subject(), &mut rng, 2000, faults)),
            block_on(random::messages(&subject(), &mut rng, 2000, faults)),
        ];
        assert!(kept.iter().all(Result::is_ok), "{kept:?}");
    }
}

#[test]
fn damage_of_many_kinds_is_found_and_repaired() {
    let mut rng = Rng::from_env(1);
    for _ in 0..20 {
        let kept = [
            block_on(damage::records::<Domain, _>(&subject(), &mut rng, Flips::Sometimes)),
            block_on(damage::records::<User, _>(&subject(), &mut rng, Flips::Sometimes)),
            block_on(damage::records::<Mailbox, _>(&subject(), &mut rng, Flips::Sometimes)),
            block_on(damage::messages(&subject(), &mut rng, Flips::Sometimes)),
        ];
        assert!(kept.iter().all(Result::is_ok), "{kept:?}");
    }
}
