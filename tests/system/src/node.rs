//! The real program as a child process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::eventually;

/// A running `postroom dev`. Ended (SIGKILL, by its pid) when dropped.
pub struct Node {
    child: Child,
    /// Its IMAP address.
    pub imap: SocketAddr,
    /// Its LMTP address.
    pub lmtp: SocketAddr,
    /// Its admin address.
    pub admin: SocketAddr,
    /// With which any user logs in.
    pub password: String,
}

/// The program under test: built beside the tests, in their profile.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    // Tests lie in target/PROFILE/deps, the benchmark in target/PROFILE.
    let beside = test.ancestors().skip(1).take(2).map(|folder| folder.join("postroom"));
    beside.into_iter().find(|program| program.exists()).unwrap_or_else(|| {
        panic!("no postroom near {}: run the tests with `cargo xtask test`", test.display())
    })
}

/// The program with arguments; its output is captured.
pub fn postroom(args: &[&str]) -> std::process::Output {
    Command::new(program()).args(args).output().expect("the program starts")
}

impl Node {
    /// Starts a node on this data folder, on ports of its own choice, and waits until it is ready.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// As [`Node::start`], with further arguments.
    pub fn start_with(data: &Path, args: &[&str]) -> Self {
        Self::start_logging(data, args, Stdio::inherit())
    }

    /// As [`Node::start_with`], with its log going to `log`.
    pub fn start_logging(data: &Path, args: &[&str], log: Stdio) -> Self {
        let any = "127.0.0.1:0";
        let mut command = Command::new(program());
        command.args(["--json", "dev", "--imap", any, "--lmtp", any, "--admin", any]);
        command.args(["--password", "secret", "--data"]).arg(data).args(args);
        command.stdout(Stdio::piped()).stdin(Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("the node starts");
        let stdout = child.stdout.take().expect("its output is ours");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the node prints");
        let ready: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("not ready: {line:?}: {e}"));
        let address = |key: &str| {
            let text = ready[key].as_str().unwrap_or_else(|| panic!("{line} lacks {key}"));
            text.parse().unwrap_or_else(|e| panic!("{key} in {line}: {e}"))
        };
        Self {
            imap: address("imap"),
            lmtp: address("lmtp"),
            admin: address("admin"),
            password: "secret".into(),
            child,
        }
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to stop (SIGTERM) and returns its exit code.
    pub fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there");
        assert!(sent.success(), "the node {pid} is gone already");
        eventually("the node stops after SIGTERM", || self.child.try_wait().ok().flatten()).code()
    }

    fn end(&mut self) {
        // Fails only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}
