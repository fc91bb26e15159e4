//! What wit-bindgen makes of `wit/`: one world for each kind of record and one for hooks, sharing
//! handles, so that a component can export any of them. The records are plain types of the conformance kit.
#![allow(missing_docs, unsafe_code, clippy::all)]

pub mod domains {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "domain-store",
        additional_derives: [PartialEq, Eq, PartialOrd, Ord, Hash],
        with: {
            "postroom:store/types@0.1.0-draft.1": postroom_kit::records,
        },
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "postroom_guest::bindings::domains",
        generate_all,
    });
}

pub mod users {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "user-store",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "postroom_guest::bindings::users",
        with: {
            "postroom:host/storage@0.1.0-draft.1": crate::bindings::domains::postroom::host::storage,
            "postroom:store/types@0.1.0-draft.1": postroom_kit::records,
        },
        generate_all,
    });
}

pub mod mailboxes {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "mailbox-store",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "postroom_guest::bindings::mailboxes",
        with: {
            "postroom:host/storage@0.1.0-draft.1": crate::bindings::domains::postroom::host::storage,
            "postroom:store/types@0.1.0-draft.1": postroom_kit::records,
        },
        generate_all,
    });
}

pub mod hooks {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "delivery-hooks",
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "postroom_guest::bindings::hooks",
        with: {
            "postroom:host/storage@0.1.0-draft.1": crate::bindings::domains::postroom::host::storage,
            "postroom:store/types@0.1.0-draft.1": postroom_kit::records,
        },
        generate_all,
    });
}

pub mod messages {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "message-store",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "postroom_guest::bindings::messages",
        with: {
            "postroom:host/storage@0.1.0-draft.1": crate::bindings::domains::postroom::host::storage,
            "postroom:store/types@0.1.0-draft.1": postroom_kit::records,
        },
        generate_all,
    });
}
