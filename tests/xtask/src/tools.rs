//! What tests and benchmarks use beside Rust, fetched from Debian's packages.

use std::process::Command;

use anyhow::bail;

use crate::sh;

/// A program and the Debian package that has it.
pub struct Tool {
    program: &'static str,
    package: &'static str,
    /// Where the program is when it is not on the PATH.
    path: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package, path: "" }
}

/// What the tests need.
pub const TEST: &[Tool] = &[
    tool("curl", "curl"),
    tool("mbsync", "isync"),
    tool("neomutt", "neomutt"),
    tool("python3", "python3"),
];

/// What the benchmarks need.
pub const BENCH: &[Tool] = &[
    Tool { program: "dovecot", package: "dovecot-imapd", path: "/usr/sbin/dovecot" },
    Tool { program: "lmtp", package: "dovecot-lmtpd", path: "/usr/lib/dovecot/lmtp" },
];

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
    let install = [&["install", "-y", "-qq", "--no-install-recommends"], &missing[..]].concat();
    let done = apt(&["update", "-qq"]).and_then(|()| apt(&install));
    done.map_err(|error| anyhow::anyhow!("{error}; install them yourself: apt-get install {names}"))
}

fn present(tool: &Tool) -> bool {
    if !tool.path.is_empty() && std::path::Path::new(tool.path).exists() {
        return true;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool.program).is_file())
}

fn is_root() -> bool {
    // The owner of our own process directory is who we are.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
