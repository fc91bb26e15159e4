//! What is used beside the toolchain: the target of the guests, and other programs from Debian's
//! packages.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::sh;

/// What store components are built for.
const GUEST_TARGET: &str = "wasm32-wasip2";

/// A program and the Debian package that has it.
pub struct Tool {
    program: &'static str,
    package: &'static str,
    /// Where the program is when it is not on the PATH.
    path: &'static str,
    /// Arguments with which it succeeds where the package is there, for packages that add to another
    /// one's program; without any, it only has to be there.
    probe: &'static [&'static str],
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package, path: "", probe: &[] }
}

/// What the tests need.
pub const TEST: &[Tool] = &[
    tool("curl", "curl"),
    tool("mbsync", "isync"),
    tool("neomutt", "neomutt"),
    // Found by `tests/postgres` itself, which takes the newest.
    Tool { path: "/usr/lib/postgresql", ..tool("postgres", "postgresql") },
    tool("python3", "python3"),
    Tool { probe: &["-c", "import ensurepip, venv"], ..tool("python3", "python3-venv") },
];

/// What a local cluster needs.
pub const CLUSTER: &[Tool] =
    &[Tool { path: "/usr/lib/postgresql", ..tool("postgres", "postgresql") }];

/// What the benchmarks need.
pub const BENCH: &[Tool] = &[
    Tool { path: "/usr/sbin/dovecot", ..tool("dovecot", "dovecot-imapd") },
    Tool { path: "/usr/lib/dovecot/lmtp", ..tool("lmtp", "dovecot-lmtpd") },
];

/// Adds the guests' target to the pinned toolchain where it is missing: rustup does so by itself
/// only where it is allowed to install.
pub fn guest_target() -> anyhow::Result<()> {
    let listing = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = listing.context("rustc cannot be started: install rustup")?.stdout;
    let sysroot = String::from_utf8_lossy(&sysroot).trim().to_owned();
    if std::path::Path::new(&sysroot).join("lib/rustlib").join(GUEST_TARGET).is_dir() {
        return Ok(());
    }
    sh::run(Command::new("rustup").args(["target", "add", GUEST_TARGET]))
}

/// Installs what is missing.
pub fn fetch(tools: &[Tool]) -> anyhow::Result<()> {
    let missing: Vec<&str> = tools.iter().filter(|t| !present(t)).map(|t| t.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if Command::new("apt-get").arg("--version").output().is_err() {
        bail!("the tests need {names}: install them with this system's package manager");
    }
    let admin: &[&str] = if is_root() { &["apt-get"] } else { &["sudo", "-n", "apt-get"] };
    eprintln!("installing {names}");
    let apt = |args: &[&str]| {
        let mut command = Command::new(admin[0]);
        command.args(&admin[1..]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
        sh::run(&mut command)
    };
    if missing.contains(&"postgresql") {
        no_default_cluster(admin)?;
    }
    let install = [&["install", "-y", "-qq", "--no-install-recommends"], &missing[..]].concat();
    let done = apt(&["update", "-qq"]).and_then(|()| apt(&install));
    done.map_err(|error| anyhow::anyhow!("{error}; install them yourself: apt-get install {names}"))
}

/// Sees to it that installing PostgreSQL neither makes nor starts a database of the system's: the tests
/// start their own.
fn no_default_cluster(admin: &[&str]) -> anyhow::Result<()> {
    const FILE: &str = "/etc/postgresql-common/createcluster.conf";
    if std::path::Path::new(FILE).exists() {
        return Ok(());
    }
    let script =
        format!("mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' > {FILE}");
    let shell = [&admin[..admin.len() - 1], &["sh", "-c", &script]].concat();
    sh::run(Command::new(shell[0]).args(&shell[1..]))
}

fn present(tool: &Tool) -> bool {
    if !tool.path.is_empty() && std::path::Path::new(tool.path).exists() {
        return true;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|folder| folder.join(tool.program).is_file());
    there && (tool.probe.is_empty() || succeeds(tool))
}

fn succeeds(tool: &Tool) -> bool {
    let mut command = Command::new(tool.program);
    let quiet = command.args(tool.probe).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    // The owner of our own process directory is who we are.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
