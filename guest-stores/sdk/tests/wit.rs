//! `wit/` is the specification: everything in it is documented, and every promise has an id that is
//! used once. (That each has a case or a reason for none, the conformance kit's own tests see to.)

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use postroom_kit::promises::ids;
use wit_parser::{Docs, Resolve, TypeDef, TypeDefKind, WorldItem};

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

fn resolve() -> Resolve {
    let mut resolve = Resolve::default();
    resolve.push_path(wit()).expect("wit/ parses");
    resolve
}

/// Every item with its documentation, by where it stands: `messages.insert`.
fn documented(resolve: &Resolve) -> Vec<(String, Docs)> {
    let mut items = Vec::new();
    for (_, package) in &resolve.packages {
        let name = &package.name.name;
        items.push((format!("package {name}"), package.docs.clone()));
        for (interface, id) in &package.interfaces {
            let id = &resolve.interfaces[*id];
            items.push((format!("interface {interface}"), id.docs.clone()));
            for (ty, id) in &id.types {
                let ty_def = &resolve.types[*id];
                if !is_use(resolve, ty_def) {
                    items.push((format!("{interface}.{ty}"), ty_def.docs.clone()));
                    items.extend(members(interface, ty, ty_def));
                }
            }
            for (name, function) in &id.functions {
                items.push((format!("{interface}.{name}"), function.docs.clone()));
            }
        }
        for (world, id) in &package.worlds {
            items.push((format!("world {world}"), resolve.worlds[*id].docs.clone()));
        }
    }
    items
}

/// Whether a type only names one of another interface (`use`).
fn is_use(resolve: &Resolve, ty: &TypeDef) -> bool {
    match &ty.kind {
        TypeDefKind::Type(wit_parser::Type::Id(id)) => resolve.types[*id].owner != ty.owner,
        _ => false,
    }
}

fn members(interface: &str, name: &str, ty: &TypeDef) -> Vec<(String, Docs)> {
    let at = |member: &str| format!("{interface}.{name}.{member}");
    match &ty.kind {
        TypeDefKind::Record(record) => {
            record.fields.iter().map(|field| (at(&field.name), field.docs.clone())).collect()
        }
        TypeDefKind::Variant(variant) => {
            variant.cases.iter().map(|case| (at(&case.name), case.docs.clone())).collect()
        }
        TypeDefKind::Enum(_) | TypeDefKind::Flags(_) => {
            panic!("{}: what grows is neither an enum nor flags", at("*"))
        }
        _ => Vec::new(),
    }
}

fn promises(resolve: &Resolve) -> Vec<(String, String)> {
    let each = documented(resolve).into_iter().flat_map(|(place, docs)| {
        let ids = ids(docs.contents.as_deref().unwrap_or_default());
        let ids: Vec<_> = ids.into_iter().map(str::to_owned).collect();
        ids.into_iter().map(move |id| (place.clone(), id))
    });
    each.collect()
}

#[test]
fn everything_is_documented() {
    let bare = documented(&resolve())
        .into_iter()
        .filter(|(_, docs)| docs.contents.as_deref().is_none_or(|text| text.trim().is_empty()));
    assert_eq!(bare.map(|(place, _)| place).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn every_promise_has_an_id_of_its_own() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let promises = promises(&resolve());
    assert!(promises.len() > 100, "only {} promises were found", promises.len());
    for (place, id) in promises {
        if let Some(other) = seen.insert(id.clone(), place.clone()) {
            panic!("[{id}] stands at {other} and at {place}");
        }
    }
    for id in seen.keys() {
        let (stem, number) = id.rsplit_once('.').expect("three words");
        let number: u32 = number.parse().expect("a number");
        let before = format!("{stem}.{}", number.saturating_sub(1));
        assert!(number == 1 || seen.contains_key(&before), "[{id}] stands without [{before}]");
    }
}

#[test]
fn every_function_may_wait_or_says_why_not() {
    // These only touch what the host has at hand.
    let at_hand = ["view", "put", "delete", "delete-range", "put-body", "size", "digest", "get"];
    let resolve = resolve();
    for (_, interface) in &resolve.interfaces {
        for (name, function) in &interface.functions {
            let word = name.rsplit('.').next().expect("a name");
            let host = matches!(interface.name.as_deref(), Some("storage" | "settings"));
            assert!(function.kind.is_async() || host && at_hand.contains(&word), "{name}");
        }
    }
}

#[test]
fn records_that_may_grow_end_in_extra() {
    let resolve = resolve();
    for (_, ty) in resolve.types.iter() {
        let TypeDefKind::Record(record) = &ty.kind else { continue };
        let name = ty.name.as_deref().unwrap_or_default();
        let last = record.fields.last().expect("a field");
        let docs = [&ty.docs].into_iter().chain(record.fields.iter().map(|field| &field.docs));
        let text: String = docs.filter_map(|docs| docs.contents.clone()).collect();
        // What the host returns may come in a new record of a new function.
        let closed = text.replace('\n', " ").contains("It never grows") || name == "scan-page";
        assert!(closed || last.name == "extra", "record {name} ends in {}", last.name);
    }
}

#[test]
fn the_kit_reads_the_promises_that_the_authors_of_wit_tools_read() {
    let promised: BTreeSet<_> = promises(&resolve()).into_iter().map(|(_, id)| id).collect();
    let read = postroom_kit::promises::promises();
    assert_eq!(read.iter().map(|promise| promise.id.clone()).collect::<BTreeSet<_>>(), promised);
    for promise in read {
        let quoted = format!("[{}]", promise.id);
        assert!(promise.sentence.contains(&quoted), "{promise:?}");
        assert!(promise.sentence.len() > quoted.len() + 10, "{promise:?}");
    }
}

#[test]
fn the_world_of_all_kinds_exports_each_of_them() {
    let resolve = resolve();
    let (_, world) =
        resolve.worlds.iter().find(|(_, world)| world.name == "store").expect("world store");
    let interfaces = world.exports.values().filter_map(|item| match item {
        WorldItem::Interface { id, .. } => resolve.interfaces[*id].name.clone(),
        _ => None,
    });
    let expected = ["domains", "users", "mailboxes", "messages"];
    assert_eq!(interfaces.collect::<BTreeSet<_>>(), expected.map(str::to_owned).into());
}
