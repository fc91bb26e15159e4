//! The interfaces that a component exports: where they are, and one instance's own.

use wasmtime::Store;

use super::bindings::exports::postroom::store as exports;
use super::state::InstanceState;

/// Where the exported interfaces of a component are; found once, when it is loaded.
pub(super) struct Indices {
    pub(super) domains: Option<exports::domains::GuestIndices>,
    pub(super) users: Option<exports::users::GuestIndices>,
    pub(super) mailboxes: Option<exports::mailboxes::GuestIndices>,
    pub(super) messages: Option<exports::messages::GuestIndices>,
    pub(super) hooks: Option<exports::hooks::GuestIndices>,
}

/// The exported interfaces of one instance.
pub(super) struct Exports {
    domains: Option<exports::domains::Guest>,
    users: Option<exports::users::Guest>,
    mailboxes: Option<exports::mailboxes::Guest>,
    messages: Option<exports::messages::Guest>,
    hooks: Option<exports::hooks::Guest>,
}

macro_rules! interface {
    ($($kind:ident),*) => {
        impl Exports {
            $(
                /// The interface; the pool admits no call to one that is not exported.
                pub(super) fn $kind(&self) -> wasmtime::Result<&exports::$kind::Guest> {
                    self.$kind.as_ref().ok_or_else(|| {
                        wasmtime::format_err!(concat!(stringify!($kind), " is not exported"))
                    })
                }
            )*
        }

        impl Indices {
            /// Finds them in an instance.
            pub(super) fn load(
                &self,
                store: &mut Store<InstanceState>,
                instance: &wasmtime::component::Instance,
            ) -> wasmtime::Result<Exports> {
                Ok(Exports {
                    $($kind: match &self.$kind {
                        Some(indices) => Some(indices.load(&mut *store, instance)?),
                        None => None,
                    },)*
                })
            }
        }
    };
}

interface!(domains, users, mailboxes, messages, hooks);
