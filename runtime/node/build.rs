//! Builds the guest stores of `guest-stores/` for `wasm32-wasip2`: `keyed` is embedded, so that a
//! plain `cargo build` is all that a node needs, `memory` is there for the tests.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "wasm32-wasip2";
const PACKAGES: [&str; 2] = ["postroom-keyed", "postroom-memory"];
const COMPONENTS: [&str; 2] = ["keyed.wasm", "memory.wasm"];

/// Settings of the outer build that must not reach the guest's: flags, wrappers (clippy's), target,
/// profile. Where crates come from (`CARGO_HOME`, registries, offline) stays.
const LEAKS: [&str; 10] = [
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUSTC",
    "RUSTDOC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "TARGET",
    "__CARGO_DEFAULT_LIB_METADATA",
];
const LEAKING_PREFIXES: [&str; 5] =
    ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_FEATURE_", "CARGO_CFG_", "CARGO_TARGET_"];

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("../..");
    for input in ["Cargo.toml", "Cargo.lock", "sdk", "keyed", "memory"] {
        println!("cargo::rerun-if-changed={}", root.join("guest-stores").join(input).display());
    }
    for input in ["wit", "runtime/kit/Cargo.toml", "runtime/kit/src"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    if !has_target() {
        fail(&format!("the store components need this target: rustup target add {TARGET}"));
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    let built = build(&root, &guest_folder(&out));
    for component in COMPONENTS {
        if let Err(error) = std::fs::copy(built.join(component), out.join(component)) {
            fail(&format!("{component} was not built in {}: {error}", built.display()));
        }
    }
}

/// A target folder of the guests' own: cargo locks a target folder while it builds, and the outer
/// cargo holds its own lock. Beside the profiles' folders, so that all profiles share it.
fn guest_folder(out: &Path) -> PathBuf {
    // target/<profile>/build/<package>-<hash>/out
    match out.ancestors().nth(4) {
        Some(target) => target.join("guests"),
        None => out.join("guests"),
    }
}

fn build(root: &Path, folder: &Path) -> PathBuf {
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .args(["build", "--release", "--locked", "--target", TARGET])
        .args(PACKAGES.iter().flat_map(|package| ["--package", package]))
        .arg("--manifest-path")
        .arg(root.join("guest-stores/Cargo.toml"))
        .arg("--target-dir")
        .arg(folder);
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let leaks = LEAKS.contains(&text);
        if leaks || LEAKING_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    match cargo.output() {
        Ok(output) if output.status.success() => folder.join(TARGET).join("release"),
        Ok(output) => {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            fail("the guest stores do not build; see above")
        }
        Err(error) => fail(&format!("cargo cannot be started: {error}")),
    }
}

fn has_target() -> bool {
    let rustc = Command::new(variable("RUSTC")).args(["--print", "sysroot"]).output();
    let Ok(output) = rustc else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib").is_dir()
}

fn variable(name: &str) -> String {
    match env::var(name) {
        Ok(value) => value,
        Err(_) => fail(&format!("cargo did not set {name}")),
    }
}

fn fail(why: &str) -> ! {
    println!("cargo::error={why}");
    exit(1)
}
