//! Files that are loaded, and files that are not, each with its line.

use super::*;

fn keyed() -> Vec<u8> {
    let ComponentFrom::Octets(octets) = default_store().from else { panic!() };
    octets.to_vec()
}

/// The component with every occurrence of a text replaced by one of the same length.
fn altered(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "{from:?} and {to:?}");
    let (mut octets, mut at) = (keyed(), 0);
    let mut found = 0;
    while at + from.len() <= octets.len() {
        if octets[at..].starts_with(from.as_bytes()) {
            octets[at..at + to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
        at += 1;
    }
    assert!(found > 0, "{from} is not in the component");
    octets
}

async fn load(octets: Vec<u8>) -> Result<Arc<StoreComponent>, LoadError> {
    let from = ComponentFrom::Octets(octets.into());
    let source = ComponentSource { name: "test".to_owned(), from };
    let host = Host::new(HostConfig::default()).unwrap();
    host.load(source, &Grants::default(), one_instance()).await
}

async fn check(octets: Vec<u8>, line: &str) {
    match load(octets).await {
        Ok(_) => panic!("loaded, expected: {line}"),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains(line), "{error}, expected: {line}");
            assert!(!error.contains('\n'), "more than one line: {error}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_no_component_is_named_for_what_it_is() {
    check(Vec::new(), "is empty").await;
    check(b"\0asm\x01\0\0\0".to_vec(), "is a core WebAssembly module").await;
    check(b"\0asm".to_vec(), "is damaged at octet 4").await;
    check(b"\0asm\x09\0\x07\0".to_vec(), "no version of WebAssembly").await;
    check(b"\x7fELF\x02\x01\x01".to_vec(), "is precompiled code").await;
    check(b"(component)".to_vec(), "assemble it first").await;
    check(b"PK\x03\x04".to_vec(), "ZIP").await;
    check(b"#!/bin/sh\n".to_vec(), "a script").await;
    check(b"From ada Sat Jan  1".to_vec(), "is no WebAssembly component").await;
}

#[tokio::test]
async fn a_component_for_something_else_says_what_it_was_built_for() {
    check(b"\0asm\x0d\0\x01\0".to_vec(), "keeps no kind of record").await;
    let other = altered("0.1.0-draft.1", "0.3.0-draft.1");
    check(other, "was built for postroom:host 0.3.0-draft.1, this node serves 0.1.0-draft.1").await;
    let other = altered("wasi:cli/environment@0.2.", "wasi:cli/environment@0.9.");
    check(other, "was built for wasi:cli 0.9.").await;
    check(altered("wasi:cli/environment", "wasi:ele/phant-house"), "no store component gets").await;
    check(altered("wasi:cli/environment", "wasi:http/something1"), "outgoing HTTP").await;
    check(altered("alias-of", "alias-if"), "has another postroom:store than").await;
    check(altered("get-many", "get-mary"), "has another postroom:host/storage").await;
}

#[tokio::test]
async fn a_manifest_must_tell_the_truth() {
    check(altered("\"kinds\"", "\"binds\""), "unknown field `binds`").await;
    let fewer = altered("[\"domains\",\"users\",", "[                  ");
    check(fewer, "names the kinds [mailboxes, messages], the exports are [domains, users").await;
}

#[tokio::test]
async fn a_component_cut_anywhere_is_refused_and_nothing_panics() {
    let whole = keyed();
    for length in (1..whole.len()).step_by(997).chain(1..64) {
        inspect(&whole[..length]).and_then(|found| found.refused(&Grants::default())).unwrap_err();
    }
    check(whole[..whole.len() - 1].to_vec(), "is damaged at octet").await;
}

#[test]
fn a_component_with_flipped_octets_never_panics_the_reader() {
    let whole = keyed();
    let mut seed = 0x5eed_u64;
    println!("seed {seed:#x}");
    for _ in 0..2_000 {
        let mut octets = whole.clone();
        for _ in 0..4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // The outer sections lie at both ends; code in the middle is the compiler's to judge.
            let reach = (seed >> 33) as usize % 6_000;
            let at = if seed >> 63 == 0 { reach } else { octets.len() - 1 - reach };
            octets[at] ^= 1 << (seed >> 20 & 7);
        }
        let _ = inspect(&octets).and_then(|found| found.refused(&Grants::default()));
    }
}

#[tokio::test]
async fn an_altered_component_is_refused_by_the_compiler_and_harms_nobody() {
    let mut octets = keyed();
    let middle = octets.len() / 3;
    octets[middle..middle + 64].fill(0xff);
    check(octets, "").await;
    load(keyed()).await.unwrap();
}

#[tokio::test]
async fn files_that_cannot_be_read_or_are_too_large_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = HostConfig { max_component_mib: 0, ..HostConfig::default() };
    let host = Host::new(config).unwrap();
    let read = async |path: PathBuf| {
        let from = ComponentFrom::File(path);
        host.read(&ComponentSource { name: "test".to_owned(), from }).await.unwrap_err()
    };
    let absent = read(folder.path().join("absent.wasm")).await;
    assert!(matches!(absent, LoadError::Unreadable(_)), "{absent}");
    std::fs::write(folder.path().join("large.wasm"), "1").unwrap();
    let large = read(folder.path().join("large.wasm")).await;
    assert_eq!(large, LoadError::TooLarge { octets: 1, most: 0 });
    let host = Host::new(HostConfig::default()).unwrap();
    let from = ComponentFrom::File(folder.path().to_owned());
    let source = ComponentSource { name: "test".to_owned(), from };
    let error = host.read(&source).await.unwrap_err();
    assert!(matches!(error, LoadError::Unreadable(_)), "{error}");
}

#[tokio::test]
async fn limits_that_this_node_cannot_keep_refuse_the_load() {
    let host = Host::new(HostConfig::default()).unwrap();
    for (limits, part) in [
        (Limits { instances: 0, ..Limits::default() }, "instances"),
        (Limits { instances: 1_000, ..Limits::default() }, "max_instances"),
        (Limits { memory_mib: 4_000, ..Limits::default() }, "max_memory_mib"),
        (Limits { instances: 256, ..Limits::default() }, "kept free"),
        (Limits { call_ms: 0, ..Limits::default() }, "call_ms"),
        (Limits { call_ms: 40_000, ..Limits::default() }, "90000 ms"),
        (Limits { queue_ms: 8_000, ..Limits::default() }, "queue_ms"),
        (Limits { import_ms: 30_000, ..Limits::default() }, "below call_ms"),
        (Limits { handles: 1, ..Limits::default() }, "handles"),
    ] {
        let refused = host.load(default_store(), &Grants::default(), limits).await.err();
        let Some(LoadError::Limits(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains(part), "{why}");
    }
}

#[tokio::test]
async fn a_component_that_needs_more_memory_than_it_may_have_is_not_started() {
    let host = Host::new(HostConfig::default()).unwrap();
    let limits = Limits { memory_mib: 1, ..one_instance() };
    let refused = host.load(default_store(), &Grants::default(), limits).await.err();
    let Some(LoadError::Start(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("memory") && !why.contains('\n'), "{why}");
    println!("{why}");
}

#[tokio::test]
async fn instances_beyond_the_nodes_limit_refuse_the_load_not_the_engine() {
    let host = Host::new(HostConfig { max_instances: 3, ..HostConfig::default() }).unwrap();
    let limits = || Limits { instances: 2, ..Limits::default() };
    let first = host.load(default_store(), &Grants::default(), limits()).await.unwrap();
    let second = host.load(default_store(), &Grants::default(), limits()).await.err();
    let Some(LoadError::Start(why)) = second else { panic!("{second:?}") };
    assert!(why.contains("max_instances"), "{why}");
    let last = host.load(default_store(), &Grants::default(), one_instance()).await.err();
    assert!(matches!(last, Some(LoadError::Start(_))), "none is left to replace another: {last:?}");
    first.close().await;
    host.load(default_store(), &Grants::default(), limits()).await.unwrap();
}

#[test]
fn an_inspection_shows_what_the_file_says() {
    let found = inspect(&keyed()).unwrap();
    let manifest = found.manifest.clone().unwrap();
    assert_eq!((manifest.name.as_str(), found.lift), ("postroom-keyed", Lift::Async));
    assert_eq!(found.kinds, Kind::ALL);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["manifest"]["kinds"][3], "messages");
    assert_eq!(json["digest"].as_str().unwrap().len(), 64);
    assert!(found.imports.iter().any(|import| import.starts_with("postroom:host/storage@")));
}
