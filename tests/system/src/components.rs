//! Builds the components that the tests run, when they are not up to date.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// What this process has built: one after the other, each once.
static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn guest_stores() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-stores")
}

fn build(what: &str, mut command: Command) {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built.contains(what) {
        return;
    }
    // A person's settings for the outer build do not say where these lie.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR"] {
        command.env_remove(name);
    }
    let output = command.output().expect("the build can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    built.insert(what.to_owned());
}

/// The component of a Rust package of `guest-stores`: `keyed`.
pub fn component(name: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(["--package", &format!("postroom-{name}")])
        .arg("--manifest-path")
        .arg(guest_stores().join("Cargo.toml"));
    build(name, cargo);
    guest_stores().join("target/wasm32-wasip2/release").join(format!("{name}.wasm"))
}

/// The component that a script of `guest-stores/proofs` builds: `script("c", "c")`.
pub fn script(folder: &str, name: &str) -> PathBuf {
    build(folder, Command::new(guest_stores().join("proofs").join(folder).join("build.sh")));
    guest_stores().join("target/proofs").join(format!("{name}.wasm"))
}
