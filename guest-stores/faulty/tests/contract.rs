//! Without settings it is a right store: the contract of the WIT, over maps.

use faulty::Faulty;
use postroom_guest::testing::contract::{Native, random};
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
fn random_operations_agree_with_the_model() {
    let mut rng = Rng::from_env(1);
    block_on(random::records::<Domain, _>(&subject(), &mut rng, 2000));
    block_on(random::records::<User, _>(&subject(), &mut rng, 2000));
    block_on(random::records::<Mailbox, _>(&subject(), &mut rng, 2000));
    block_on(random::messages(&subject(), &mut rng, 2000));
}

#[test]
fn damage_is_found_and_repaired() {
    let mut rng = Rng::from_env(1);
    for _ in 0..500 {
        block_on(random::damaged_records::<Domain, _>(&subject(), &mut rng));
        block_on(random::damaged_records::<User, _>(&subject(), &mut rng));
        block_on(random::damaged_records::<Mailbox, _>(&subject(), &mut rng));
        block_on(random::damaged_messages(&subject(), &mut rng));
    }
}
