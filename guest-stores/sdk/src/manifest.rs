//! The manifest: what a component says about itself without being run.

/// Puts a manifest into the component, as the custom section `postroom:manifest`. [`export!`] does
/// it; by itself it is for components that export in another way.
///
/// [`export!`]: crate::export!
#[macro_export]
macro_rules! manifest {
    ([$($kind:ident),*], { $($rest:tt)* }) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            const JSON: &str = concat!(
                "{\"name\":\"", env!("CARGO_PKG_NAME"),
                "\",\"version\":\"", env!("CARGO_PKG_VERSION"),
                "\",\"kinds\":", "[", $crate::manifest!(@kinds $($kind),*), "]", ",",
                stringify!($($rest)*), "}"
            );
            #[used]
            #[unsafe(link_section = "postroom:manifest")]
            static MANIFEST: [u8; JSON.len()] = {
                let mut octets = [0; JSON.len()];
                let mut at = 0;
                while at < octets.len() {
                    octets[at] = JSON.as_bytes()[at];
                    at += 1;
                }
                octets
            };
        };
    };
    (@kinds hooks) => { "" };
    (@kinds $first:ident $(, $kind:ident)*) => {
        concat!("\"", stringify!($first), "\"", $($crate::manifest!(@more $kind)),*)
    };
    (@more hooks) => { "" };
    (@more $kind:ident) => { concat!(",\"", stringify!($kind), "\"") };
}

/// Makes a component of a store type that is [`Default`]: names the kinds of record that it keeps,
/// then `hooks` if it has any, and gives the rest of its manifest (the package's name and version and
/// the kinds come by themselves). Does nothing for other targets than WebAssembly.
///
/// ```text
/// postroom_guest::export! {
///     MyStore: domains, users, mailboxes, messages;
///     manifest: { "schema": { "reads": [1, 1], "writes": 1 } }
/// }
/// ```
#[macro_export]
macro_rules! export {
    ($store:ident: $($kind:ident),+; manifest: { $($manifest:tt)* }) => {
        $crate::manifest!([$($kind),+], { $($manifest)* });
        $($crate::export!(@ $kind $store);)+
    };
    (@ domains $store:ident) => { $crate::export!(# domains DomainStore $store); };
    (@ users $store:ident) => { $crate::export!(# users UserStore $store); };
    (@ mailboxes $store:ident) => { $crate::export!(# mailboxes MailboxStore $store); };
    (@ messages $store:ident) => { $crate::export!(# messages MessageStore $store); };
    (@ hooks $store:ident) => { $crate::export!(# hooks DeliveryHooks $store); };
    (# $kind:ident $glue:ident $store:ident) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, missing_docs)]
        const _: () = {
            type Exported = $crate::export::$glue<$store>;
            $crate::bindings::$kind::export!(Exported with_types_in $crate::bindings::$kind);
        };
    };
}
