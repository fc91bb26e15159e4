//! The smallest store, as a component.

use postroom_contract::{EngineKind, Wanted, component, run};
use postroom_guest::testing::Rng;
use postroom_guest::testing::contract::random;
use postroom_guest::{Domain, Mailbox, User, message_contract, record_contract};

fn wanted() -> Wanted {
    Wanted::new(component("memory"), EngineKind::Memory)
}

record_contract!(domains, Domain, run, wanted().of_directory());
record_contract!(users, User, run, wanted().of_directory());
record_contract!(mailboxes, Mailbox, run, wanted().of_account());
message_contract!(messages, run, wanted().of_account());

#[test]
fn random_operations_agree_with_the_model() {
    let mut rng = Rng::from_env(1);
    run(random::records::<Domain, _>(&wanted().of_directory(), &mut rng, 300));
    run(random::messages(&wanted().of_account(), &mut rng, 300));
}
