//! The default store with rows of two schemas, as a component.

use postroom_contract::{EngineKind, Wanted, component, run};
use postroom_guest::{Domain, Mailbox, User, message_contract, record_contract};
use postroom_node::guest::Kind;

fn wanted() -> Wanted {
    Wanted::new(component("keyed2"), EngineKind::Memory)
}

record_contract!(domains, Domain, run, wanted().of(Kind::Domains));
record_contract!(users, User, run, wanted().of(Kind::Users));
record_contract!(mailboxes, Mailbox, run, wanted().of(Kind::Mailboxes));
message_contract!(messages, run, wanted().of(Kind::Messages));
