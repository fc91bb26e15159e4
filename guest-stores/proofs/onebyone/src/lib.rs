//! A domain store lifted synchronously, as a language without async does it: one call at a time in
//! one instance. It has no manifest, as a first try in such a language has none.
#![cfg(target_arch = "wasm32")]
#![allow(missing_docs, unsafe_code, clippy::all)]

use exports::postroom::store::domains::{
    Call, CheckPage, Domain, DomainPage, Guest, StoreError, Txn, View,
};

wit_bindgen::generate!({
    path: "../../../wit",
    world: "domain-store",
    async: false,
    generate_all,
});

struct OneByOne;
export!(OneByOne);

fn failed(error: impl std::fmt::Debug) -> StoreError {
    StoreError::Other(format!("{error:?}"))
}

impl Guest for OneByOne {
    fn create(_: Call, _: Txn) -> Result<(), StoreError> {
        Ok(())
    }

    fn drop(_: Call, t: Txn) -> Result<(), StoreError> {
        t.delete_range(&[], None).map_err(failed)
    }

    fn insert(_: Call, t: Txn, rows: Vec<Domain>) -> Result<(), StoreError> {
        rows.iter().try_for_each(|row| t.put(row.name.as_bytes(), b"1").map_err(failed))
    }

    fn update(_: Call, _: Txn, _: Vec<Domain>) -> Result<(), StoreError> {
        Ok(())
    }

    fn delete(_: Call, t: Txn, names: Vec<String>) -> Result<(), StoreError> {
        names.iter().try_for_each(|name| t.delete(name.as_bytes()).map_err(failed))
    }

    fn select(_: Call, v: View, names: Vec<String>) -> Result<Vec<Option<Domain>>, StoreError> {
        let keys: Vec<_> = names.iter().map(|name| name.clone().into_bytes()).collect();
        let values = v.get_many(&keys).map_err(failed)?;
        let row = |(value, name): (Option<Vec<u8>>, &String)| {
            value.map(|_| Domain { name: name.clone(), alias_of: None, extra: Vec::new() })
        };
        Ok(values.into_iter().zip(&names).map(row).collect())
    }

    fn list(_: Call, _: View, _: Option<String>, _: u32) -> Result<DomainPage, StoreError> {
        Ok(DomainPage { rows: Vec::new(), more: false, extra: Vec::new() })
    }

    fn check(_: Call, _: Txn, _: Option<String>, _: bool) -> Result<CheckPage, StoreError> {
        Ok(CheckPage { checked: 0, findings: Vec::new(), next: None, extra: Vec::new() })
    }
}
