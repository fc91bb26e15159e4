//! The default store, as a component, on each engine; and its native twin.

use std::sync::Arc;

use keyed::Keyed;
use postroom_contract::{EngineKind, Subject, Wanted, component, run, twin::Twin};
use postroom_core::types::AccountId;
use postroom_guest::testing::Rng;
use postroom_guest::testing::contract::random;
use postroom_guest::{Domain, Mailbox, User, message_contract, record_contract};
use postroom_node::guest::Stores;
use postroom_node::storage::Space;

fn wanted(engine: EngineKind) -> Wanted {
    Wanted::new(component("keyed"), engine)
}

mod memory {
    use super::*;

    record_contract!(domains, Domain, run, wanted(EngineKind::Memory).of_directory());
    record_contract!(users, User, run, wanted(EngineKind::Memory).of_directory());
    record_contract!(mailboxes, Mailbox, run, wanted(EngineKind::Memory).of_account());
    message_contract!(messages, run, wanted(EngineKind::Memory).of_account());
}

mod redb {
    use super::*;

    record_contract!(domains, Domain, run, wanted(EngineKind::Redb).of_directory());
    record_contract!(users, User, run, wanted(EngineKind::Redb).of_directory());
    record_contract!(mailboxes, Mailbox, run, wanted(EngineKind::Redb).of_account());
    message_contract!(messages, run, wanted(EngineKind::Redb).of_account());
}

#[test]
fn random_operations_agree_with_the_model() {
    let mut rng = Rng::from_env(1);
    let directory = wanted(EngineKind::Memory).of_directory();
    run(random::records::<User, _>(&directory, &mut rng, 300));
    let account = wanted(EngineKind::Memory).of_account();
    run(random::messages(&account, &mut rng, 300));
}

fn twin(space: Space) -> Subject<Twin<Keyed>> {
    run(Subject::over(Arc::new(Twin(Keyed)), EngineKind::Memory, space))
}

fn account() -> Space {
    Space::Account(AccountId::from_u128(1))
}

mod native_twin {
    use super::*;

    record_contract!(users, User, run, twin(Space::Directory));
    record_contract!(mailboxes, Mailbox, run, twin(account()));
    message_contract!(messages, run, twin(account()));
}

#[test]
fn the_native_twin_stands_in_for_the_component() {
    let stores: Stores = Twin::stores(Keyed);
    // The node's tasks move between threads: so must every future of the twin.
    fn may_move<T: Send + Sync>(_: &T) {}
    may_move(&stores);
}
