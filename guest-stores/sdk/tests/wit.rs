//! `wit/` is the specification: everything in it is documented, every promise has an id that is used
//! once, and every promise has a case in the contract or a reason why it has none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use wit_parser::{Docs, Resolve, TypeDef, TypeDefKind, WorldItem};

/// Promises without a case in `testing/contract`, each with what holds it instead.
const WITHOUT_CASE: &[(&str, &str)] = &[
    ("storage.space.*", "the host's: node's tests of storage"),
    ("storage.scan-page.*", "the host's: node's tests of storage; assumed by every list case"),
    ("storage.view.1", "the host's: node's tests of storage"),
    ("storage.view.3", "the host's: node's tests of storage"),
    ("storage.get-many.*", "the host's: node's tests of storage"),
    ("storage.scan.*", "the host's: node's tests of storage"),
    ("storage.get-body.*", "the host's: node's tests of storage"),
    ("storage.txn.1", "the host's: node's tests of storage"),
    ("storage.txn.5", "the host's: node's tests of storage"),
    ("storage.put.*", "the host's: node's tests of storage"),
    ("storage.delete.*", "the host's: node's tests of storage"),
    ("storage.delete-range.*", "the host's: node's tests of storage"),
    ("storage.put-body.*", "the host's: node's tests of storage"),
    ("storage.body.*", "the host's: node's tests of storage"),
    ("storage.read.*", "the host's: node's tests of storage"),
    ("store.rule.2", "what a cache may hold cannot be seen from outside"),
    ("store.rule.3", "the host's: node's tests of hosting"),
    ("store.rule.4", "the types see to it: handles are owned"),
    ("store.rule.6", "the host's: node's tests of hosting"),
    ("store.rule.9", "the host's: it checks before it calls"),
    ("types.call.1", "the host's: node's tests of hosting"),
    ("types.message.1", "the host's: its generator of names"),
    ("types.message.2", "the host's: its ledger of UIDs"),
    ("settings.get.*", "the host's: node's tests of hosting"),
    ("messages.settle.4", "the host's: it knows who reads"),
    ("messages.insert.3", "the host's: its ledger of UIDs and its generator of names"),
];

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

/// The ids in square brackets in a text: three words, the last a number, `*` for any interface.
fn ids(text: &str) -> Vec<String> {
    let word = |word: &str| {
        word == "*"
            || word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    let is_id = |text: &&str| {
        let words: Vec<_> = text.split('.').collect();
        words.len() == 3 && words.iter().all(|w| word(w) && !w.is_empty())
    };
    let inside = text.split('[').skip(1).filter_map(|rest| rest.split(']').next());
    inside.filter(is_id).map(str::to_owned).collect()
}

fn promises(resolve: &Resolve) -> Vec<(String, String)> {
    let each = documented(resolve).into_iter().flat_map(|(place, docs)| {
        let ids = ids(docs.contents.as_deref().unwrap_or_default());
        ids.into_iter().map(move |id| (place.clone(), id))
    });
    each.collect()
}

fn covers(pattern: &str, promise: &str) -> bool {
    let pairs = pattern.split('.').zip(promise.split('.'));
    pairs.into_iter().all(|(pattern, word)| pattern == "*" || pattern == word)
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
fn every_promise_has_a_case_or_a_reason() {
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testing/contract");
    let mut cases = BTreeSet::new();
    for entry in std::fs::read_dir(contract).expect("the contract's folder") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a text");
        cases.extend(ids(&text));
    }
    let reasons = WITHOUT_CASE.iter().map(|(pattern, _)| (*pattern).to_owned());
    let patterns: BTreeSet<_> = cases.iter().cloned().chain(reasons).collect();
    let promises: BTreeSet<_> = promises(&resolve()).into_iter().map(|(_, id)| id).collect();
    for promise in &promises {
        assert!(patterns.iter().any(|p| covers(p, promise)), "[{promise}] has no case");
    }
    for pattern in &patterns {
        assert!(promises.iter().any(|p| covers(pattern, p)), "[{pattern}] is promised nowhere");
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
