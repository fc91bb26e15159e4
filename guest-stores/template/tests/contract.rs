//! The contract of the WIT, over maps: no node is needed.

use my_store::MyStore;
use postroom_guest::testing::contract::{Native, random};
use postroom_guest::testing::{Rng, block_on};
use postroom_guest::{User, record_contract};

fn subject() -> Native<MyStore> {
    Native::default()
}

record_contract!(users, User, block_on, subject());

#[test]
fn random_operations_agree_with_the_model() {
    block_on(random::records::<User, _>(&subject(), &mut Rng::from_env(1), 2000));
}
