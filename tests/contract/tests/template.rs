//! The template, copied as an author gets it: it builds, its tests pass, a node loads it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use postroom_contract::{EngineKind, Wanted, run};
use postroom_guest::User;
use postroom_guest::testing::contract::cases;
use postroom_node::guest::Kind;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true if entry.file_name() == "target" => {}
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

fn cargo(folder: &Path, stores: &Path, words: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(words).arg("--manifest-path").arg(folder.join("Cargo.toml"));
    // Built together with the other guests, so that their dependencies are there already.
    cargo.arg("--target-dir").arg(stores.join("target"));
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = cargo.output().expect("cargo");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_copy_of_the_template_builds_and_keeps_the_contract() {
    let stores: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-stores");
    let stores = stores.canonicalize().expect("guest-stores");
    let folder = tempfile::tempdir().expect("a temporary directory");
    copy(&stores.join("template"), folder.path());
    let manifest = folder.path().join("Cargo.toml");
    let sdk = format!("{:?}", stores.join("sdk").display().to_string());
    let text = fs::read_to_string(&manifest).expect("a manifest").replace("\"../sdk\"", &sdk);
    fs::write(&manifest, text).expect("a manifest");
    // The versions that the other guests are built with.
    fs::copy(stores.join("Cargo.lock"), folder.path().join("Cargo.lock")).expect("a lock file");

    cargo(folder.path(), &stores, &["test", "--quiet"]);
    cargo(folder.path(), &stores, &["build", "--quiet", "--release", "--target", "wasm32-wasip2"]);
    let component = stores.join("target/wasm32-wasip2/release/my_store.wasm");
    let subject = || Wanted::new(component.clone(), EngineKind::Memory).of(Kind::Users);
    for case in cases::records::CASES {
        let subject = subject();
        let running = cases::records::run::<User, _>(case.name, &subject);
        let verdict = run(running.expect("the case is in the table"));
        assert!(verdict.is_ok(), "{}: {verdict:?}", case.name);
    }
}
