//! The hosting of store components, with real components over the memory engine.

mod calls;
mod compiled;
mod cpu;
mod gate;
mod hooks;
mod lies;
mod limits;
mod loading;
mod losses;
mod quarantine;
mod sandbox;
mod signature;
mod sins;
mod swap;
mod swap_faults;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, MailboxRow, MessageChange, MessageRow, Property};
use postroom_core::types::{
    AccountId, Flag, Flags, MailboxId, MailboxName, MessageId, ModSeq, Slot, ThreadId, Timestamp,
    TransactionId, Uid, UidValidity,
};

use super::*;
use crate::storage::{Claimant, Commit, Engine, MemoryEngine, Space, Txn, View};

/// A loaded component over an engine of its own.
struct Bench {
    engine: Arc<dyn Engine>,
    component: Arc<StoreComponent>,
}

impl Bench {
    async fn new(source: ComponentSource, limits: Limits) -> Self {
        Self::over(Arc::new(MemoryEngine::new()), source, limits).await
    }

    async fn over(engine: Arc<dyn Engine>, source: ComponentSource, limits: Limits) -> Self {
        let host = Host::new(HostConfig::default()).unwrap();
        let component = host.load(source, &Grants::default(), limits).await.unwrap();
        Self { engine, component }
    }

    fn txn(&self, account: u128) -> Txn {
        Txn::new(self.engine.clone(), space(account))
    }

    fn view(&self, account: u128) -> View {
        View::new(self.engine.clone(), space(account))
    }

    /// Commits what a transaction has gathered.
    async fn commit(&self, account: u128, txn: &Txn) {
        let slot = Slot::of(AccountId::from_u128(account));
        let claimant = Claimant { node: "a".to_owned(), generation: 1, nonce: [1; 16] };
        let before = self.engine.claimed(slot).await.unwrap().map(|(epoch, _)| epoch);
        let fence = self.engine.claim(slot, claimant, before).await.unwrap();
        let commit = Commit {
            space: space(account),
            fence: (account != 0).then_some(fence),
            expected_head: None,
            preconditions: Vec::new(),
            transactions: Vec::new(),
            writes: txn.take(),
            now: 0,
        };
        self.engine.commit(commit).await.unwrap();
    }

    /// `select` of domains, which is how an unruly store is told what to do.
    async fn ask(
        &self,
        account: u128,
        names: &[&str],
    ) -> Result<Vec<Option<DomainRow>>, StoreError> {
        let names = names.iter().map(|name| name.to_string()).collect();
        let domains: &dyn Records<DomainRow, String> = &*self.component;
        domains.select(call(account), &self.view(account), names).await
    }

    /// `insert` of domains.
    async fn add(&self, account: u128, txn: &Txn, names: &[&str]) -> Result<(), StoreError> {
        let rows = names.iter().map(|name| domain(name)).collect();
        let domains: &dyn Records<DomainRow, String> = &*self.component;
        domains.insert(call(account), txn, rows).await
    }
}

fn space(account: u128) -> Space {
    match account {
        0 => Space::Directory,
        account => Space::Account(AccountId::from_u128(account)),
    }
}

/// A call for an account; zero for the directory.
fn call(account: u128) -> CallInfo {
    CallInfo::new(AccountId::from_u128(account), TransactionId::from_u128(7))
}

fn domain(name: &str) -> DomainRow {
    DomainRow { name: name.to_owned(), alias_of: None, extra: Vec::new() }
}

fn mailbox(id: u128, name: &str) -> MailboxRow {
    MailboxRow {
        id: MailboxId::from_u128(id),
        name: MailboxName::new(name).unwrap(),
        uid_validity: UidValidity(17.try_into().unwrap()),
        special_use: None,
        extra: Vec::new(),
    }
}

fn message(mailbox: u128, uid: u32, size: usize) -> MessageRow {
    MessageRow {
        name: format!("m{mailbox}-{uid}"),
        mailbox: MailboxId::from_u128(mailbox),
        uid: Uid::new(uid).unwrap(),
        modseq: ModSeq(u64::from(uid)),
        flags: Flags::of([Flag::parse("\\Seen").unwrap(), Flag::parse("$Work").unwrap()]),
        internal_date: Timestamp { seconds: 1_700_000_000, offset_minutes: -330 },
        save_date: 1_700_000_001,
        size: size as u64,
        message_id: MessageId::from_u128(u128::from(uid)),
        thread_id: ThreadId::from_u128(9),
        from: vec!["Ada <ada@example.org>".to_owned()],
        to: vec![],
        cc: vec![],
        bcc: vec![],
        extra: Vec::new(),
    }
}

/// A component of `guest-stores`, built when it is not up to date.
pub fn guest(package: &str) -> ComponentSource {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = target_folder().join("guests");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(["--package", &format!("postroom-{package}")])
        .arg("--manifest-path")
        .arg(root.join("guest-stores/Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let built = cargo.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let path = folder.join("wasm32-wasip2/release").join(format!("{package}.wasm"));
    ComponentSource { name: package.to_owned(), from: ComponentFrom::File(path) }
}

/// Where the running test was built: `target/<profile>/deps/<test>`.
fn target_folder() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// Limits of one instance, so that everything meets in it.
fn one_instance() -> Limits {
    Limits { instances: 1, ..Limits::default() }
}
