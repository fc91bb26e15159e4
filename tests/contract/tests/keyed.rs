//! The default store, as a component, on each engine; and its native twin.

use keyed::Keyed;
use postroom_contract::{EngineKind, Wanted, component, run, twin::Twin, twin_of};
use postroom_guest::{Domain, Mailbox, User, message_contract, record_contract};
use postroom_node::guest::{Kind, Stores};

fn wanted(engine: EngineKind) -> Wanted {
    Wanted::new(component("keyed"), engine)
}

mod memory {
    use super::*;

    record_contract!(domains, Domain, run, wanted(EngineKind::Memory).of(Kind::Domains));
    record_contract!(users, User, run, wanted(EngineKind::Memory).of(Kind::Users));
    record_contract!(mailboxes, Mailbox, run, wanted(EngineKind::Memory).of(Kind::Mailboxes));
    message_contract!(messages, run, wanted(EngineKind::Memory).of(Kind::Messages));
}

mod redb {
    use super::*;

    record_contract!(domains, Domain, run, wanted(EngineKind::Redb).of(Kind::Domains));
    record_contract!(users, User, run, wanted(EngineKind::Redb).of(Kind::Users));
    record_contract!(mailboxes, Mailbox, run, wanted(EngineKind::Redb).of(Kind::Mailboxes));
    message_contract!(messages, run, wanted(EngineKind::Redb).of(Kind::Messages));
}

mod native_twin {
    use super::*;

    record_contract!(users, User, run, twin_of(Keyed, Kind::Users));
    record_contract!(mailboxes, Mailbox, run, twin_of(Keyed, Kind::Mailboxes));
    message_contract!(messages, run, twin_of(Keyed, Kind::Messages));
}

#[test]
fn the_native_twin_stands_in_for_the_component() {
    let stores: Stores = Twin::stores(Keyed);
    // The node's tasks move between threads: so must every future of the twin.
    fn may_move<T: Send + Sync>(_: &T) {}
    may_move(&stores);
}
