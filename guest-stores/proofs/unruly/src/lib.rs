//! A domain store that misbehaves on request: the first name that `select` is given says how. The
//! node's tests load it to see that nothing but its own call is harmed.
//!
//! It exports the WIT as wit-bindgen makes it, without the SDK, which would not let it.
#![cfg(target_arch = "wasm32")]
#![allow(missing_docs, unsafe_code, clippy::all)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use exports::postroom::store::domains::{
    Call, CheckPage, Domain, DomainPage, Guest, StoreError, Txn, View,
};
use postroom::host::storage::StorageError;

wit_bindgen::generate!({
    path: "../../../wit",
    world: "domain-store",
    generate_all,
});

postroom_guest::manifest!([domains], { "schema": { "reads": [1, 1], "writes": 1 } });

struct Unruly;
export!(Unruly);

/// Calls that this instance has had.
static CALLS: AtomicU32 = AtomicU32::new(0);
/// Handles that it had no right to keep.
static KEPT_VIEW: Mutex<Option<View>> = Mutex::new(None);
static KEPT_TXN: Mutex<Option<Txn>> = Mutex::new(None);

fn domain(name: &str) -> Domain {
    Domain { name: name.to_owned(), alias_of: None, extra: Vec::new() }
}

fn told<T>(result: Result<T, StorageError>) -> Result<T, StoreError> {
    result.map_err(|error| match error {
        StorageError::Invalid(text) => StoreError::Invalid(text),
        StorageError::Limit(text) => StoreError::Limit(text),
        StorageError::Unavailable(text) => StoreError::Unavailable(text),
        StorageError::Damaged(text) => StoreError::Damaged(text),
        StorageError::Closed(text) => StoreError::Denied(text),
        StorageError::Other(text) => StoreError::Other(text),
    })
}

/// Recursion that the compiler cannot turn into a loop.
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { deeper(depth + 1) + frame[depth as usize % 64] }
}

/// Recursion that takes nothing but the stack of the machine.
#[inline(never)]
fn deep(depth: u64) -> u64 {
    if depth == 0 { 0 } else { deep(depth - 1).wrapping_mul(31) ^ depth }
}

async fn behave(view: View, names: &[String]) -> Result<Vec<Option<Domain>>, StoreError> {
    match names.first().map_or("", String::as_str) {
        "trap" => panic!("as asked"),
        "exit" => std::process::exit(3),
        "spin" => loop {
            std::hint::black_box(0);
        },
        "overflow" => Err(StoreError::Other(deeper(0).to_string())),
        "wait" => told(view.get_many(vec![b"w".to_vec()]).await).map(|_| Vec::new()),
        "stubborn" => loop {
            if view.get_many(vec![b"w".to_vec()]).await.is_ok() {
                return Ok(vec![None]);
            }
        },
        "deep" => {
            let depth = names[1].parse().unwrap();
            std::hint::black_box(deep(depth));
            Ok(vec![None; 2])
        }
        "busy" => loop {
            told(view.get_many(vec![b"w".to_vec()]).await)?;
        },
        "memory" => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                let mut block = Vec::new();
                if block.try_reserve_exact(1 << 20).is_err() {
                    return Err(StoreError::Limit(format!("{} MiB", held.len())));
                }
                block.resize(1 << 20, 1);
                held.push(block);
            }
        }
        "print" => {
            for line in 0..10_000 {
                println!("line {line} \u{1b}[31m");
            }
            eprint!("{}", "long ".repeat(10_000));
            Ok(vec![None])
        }
        "environment" => {
            let seen = [
                std::env::vars().count() > 0,
                std::env::args().count() > 0,
                std::fs::read_dir("/").is_ok(),
                std::fs::read_dir(".").is_ok(),
                std::net::TcpStream::connect("127.0.0.1:1").is_ok(),
                std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
            ];
            Err(StoreError::Other(format!("{seen:?}")))
        }
        "keep" => {
            *KEPT_VIEW.lock().unwrap() = Some(view);
            Ok(vec![None])
        }
        "use-kept" => {
            let kept = KEPT_VIEW.lock().unwrap().take();
            let Some(kept) = kept else { return Err(StoreError::Other("nothing kept".into())) };
            let values = told(kept.get_many(vec![b"n".to_vec()]).await)?;
            Err(StoreError::Other(format!("read {values:?}")))
        }
        "use-kept-txn" => {
            let kept = KEPT_TXN.lock().unwrap().take();
            let Some(kept) = kept else { return Err(StoreError::Other("nothing kept".into())) };
            told(kept.put(b"late", b"write"))?;
            Err(StoreError::Other("wrote".into()))
        }
        "huge" => Ok(vec![Some(domain(&"x".repeat(100 << 20)))]),
        "too-many" => Ok(vec![None; names.len() + 1]),
        "another" => Ok(vec![Some(domain("other.example"))]),
        "capitals" => Ok(vec![Some(domain("Capitals"))]),
        "long-error" => Err(StoreError::Denied("line\n".repeat(10_000))),
        "keys" => {
            let empty = view.get_many(vec![Vec::new()]).await;
            let long = view.get_many(vec![vec![b'k'; 2048]]).await;
            let many = view.get_many(vec![vec![b'k']; 4097]).await;
            let none = view.scan(Vec::new(), None, 0, 1).await;
            let back = view.scan(vec![2], Some(vec![1]), 1, 1).await;
            let same = view.scan(vec![2], Some(vec![2]), 1, 1).await;
            let long_scan = view.scan(vec![0; 3000], None, 1, 1).await;
            let said = [
                matches!(empty, Err(StorageError::Invalid(_))),
                matches!(long, Err(StorageError::Invalid(_))),
                matches!(many, Err(StorageError::Limit(_))),
                matches!(none, Err(StorageError::Invalid(_))),
                matches!(back, Err(StorageError::Invalid(_))),
                matches!(same, Ok(page) if page.items.is_empty() && !page.more),
                matches!(long_scan, Err(StorageError::Invalid(_))),
                matches!(view.get_body("x".to_owned()).await, Ok(None)),
            ];
            Err(StoreError::Other(format!("{said:?}")))
        }
        "calls" => {
            let calls = CALLS.load(Ordering::Relaxed);
            Ok(vec![Some(Domain { alias_of: Some(calls.to_string()), ..domain("calls") })])
        }
        _ => {
            let keys = names.iter().map(|name| name.clone().into_bytes()).collect();
            let values = told(view.get_many(keys).await)?;
            let row = |(value, name): (Option<Vec<u8>>, &String)| value.map(|_| domain(name));
            Ok(values.into_iter().zip(names).map(row).collect())
        }
    }
}

impl Guest for Unruly {
    async fn create(_: Call, t: Txn) -> Result<(), StoreError> {
        *KEPT_TXN.lock().unwrap() = Some(t);
        Ok(())
    }

    /// More handles than anybody needs.
    async fn drop(_: Call, t: Txn) -> Result<(), StoreError> {
        let mut views = Vec::new();
        loop {
            views.push(t.view());
        }
    }

    /// Writes the names, or what the first name says.
    async fn insert(_: Call, t: Txn, rows: Vec<Domain>) -> Result<(), StoreError> {
        for row in &rows {
            match row.name.as_str() {
                "trap" => panic!("as asked"),
                "spin" => loop {
                    std::hint::black_box(0);
                },
                "wait" => told(t.view().get_many(vec![b"w".to_vec()]).await).map(drop)?,
                "stubborn" => while t.view().get_many(vec![b"w".to_vec()]).await.is_err() {},
                "large" => told(t.put(b"large", &vec![0; (4 << 20) + 1]))?,
                "flood" => loop {
                    told(t.put(b"flood", &vec![0; 4 << 20]))?;
                },
                "backwards" => told(t.delete_range(&[2], Some(&[1])))?,
                name => told(t.put(name.as_bytes(), b"1"))?,
            }
        }
        Ok(())
    }

    async fn update(_: Call, _: Txn, _: Vec<Domain>) -> Result<(), StoreError> {
        Err(StoreError::Unsupported("update".to_owned()))
    }

    async fn delete(_: Call, t: Txn, names: Vec<String>) -> Result<(), StoreError> {
        names.iter().try_for_each(|name| told(t.delete(name.as_bytes())))
    }

    async fn select(
        _: Call,
        view: View,
        names: Vec<String>,
    ) -> Result<Vec<Option<Domain>>, StoreError> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        behave(view, &names).await
    }

    async fn list(
        _: Call,
        _: View,
        after: Option<String>,
        limit: u32,
    ) -> Result<DomainPage, StoreError> {
        let page = |names: &[&str], more| DomainPage {
            rows: names.iter().map(|name| domain(name)).collect(),
            more,
            extra: Vec::new(),
        };
        Ok(match after.as_deref() {
            Some("disorder") => page(&["z", "y"], false),
            Some("twice") => page(&["z", "z"], false),
            Some("back") => page(&["a"], false),
            Some("too-many") => page(&vec!["z"; limit as usize + 1], false),
            Some("more-of-none") => page(&[], true),
            _ => page(&[], false),
        })
    }

    async fn check(
        _: Call,
        _: Txn,
        after: Option<String>,
        _: bool,
    ) -> Result<CheckPage, StoreError> {
        Ok(CheckPage { checked: 0, findings: Vec::new(), next: after, extra: Vec::new() })
    }
}
