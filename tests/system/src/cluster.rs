//! Several real nodes over one private PostgreSQL: what `cargo xtask cluster` starts and the tests of the
//! cluster are run on.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail, ensure};
use postroom_postgres::Postgres;
use serde_json::Value;

use crate::eventually;
use crate::eventually::PATIENCE;
use crate::node::program;
use crate::proxy::Proxies;

/// The password of every user.
pub const PASSWORD: &str = "secret";
/// Names of nodes: `a`, `b`, …
const NAMES: &[u8] = b"abcdefghijklmnop";
/// Most nodes of a local cluster: as many as there are names.
pub const MAX_NODES: usize = NAMES.len();

/// Ports of the nodes' links.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A node of a local cluster.
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// Its IMAP address, while it runs.
    pub imap: SocketAddr,
    /// Its LMTP address.
    pub lmtp: SocketAddr,
    /// Its admin address.
    pub admin: SocketAddr,
    folder: PathBuf,
    child: Option<Child>,
    number: usize,
    proxies: Option<Arc<Proxies>>,
}

/// Some nodes over one database. All of it ends when this is dropped.
pub struct LocalCluster {
    /// The database server.
    pub postgres: Postgres,
    /// The nodes, by name.
    pub nodes: Vec<ClusterNode>,
    proxies: Option<Arc<Proxies>>,
}

impl LocalCluster {
    /// Sets everything up in a folder and starts it.
    pub fn start(folder: &Path, nodes: usize) -> Result<Self> {
        Self::set_up(folder, nodes, false, "info", "")
    }

    /// As [`start`](Self::start), with more in the configuration of each node: whole tables.
    pub fn start_configured(folder: &Path, nodes: usize, tables: &str) -> Result<Self> {
        Self::set_up(folder, nodes, false, "info", tables)
    }

    /// As [`start`](Self::start), with what is logged (`log.filter` of the configuration).
    pub fn start_logging(folder: &Path, nodes: usize, log: &str) -> Result<Self> {
        Self::set_up(folder, nodes, false, log, "")
    }

    /// As [`start_configured`](Self::start_configured), with [`Proxies`] between all of them and before
    /// PostgreSQL, and with what is logged (`log.filter` of the configuration).
    pub fn start_with_proxies(
        folder: &Path,
        nodes: usize,
        log: &str,
        tables: &str,
    ) -> Result<Self> {
        Self::set_up(folder, nodes, true, log, tables)
    }

    fn set_up(
        folder: &Path,
        nodes: usize,
        with_proxies: bool,
        log: &str,
        tables: &str,
    ) -> Result<Self> {
        ensure!((1..=MAX_NODES).contains(&nodes), "1 to {MAX_NODES} nodes");
        let postgres = Postgres::start(&[])?;
        let connection = postgres.database()?;
        let links: Vec<SocketAddr> = (0..nodes).map(|_| free_address()).collect::<Result<_>>()?;
        let name = |number: usize| char::from(NAMES[number]).to_string();
        let folder_of = |number: usize| folder.join(name(number));
        let proxies = match with_proxies {
            true => {
                let sockets: Vec<PathBuf> =
                    (0..nodes).map(|number| folder_of(number).join("storage")).collect();
                let host = connection.split(' ').find_map(|word| word.strip_prefix("host="));
                let server = Path::new(host.context("a host")?).join(crate::proxy::storage::SOCKET);
                Some(Arc::new(Proxies::start(&links, &sockets, &server)?))
            }
            false => None,
        };
        let reached = |number: usize| match &proxies {
            Some(proxies) => proxies.address(number),
            None => links[number],
        };
        let mut all = Vec::new();
        for (number, link) in links.iter().enumerate() {
            let own = folder_of(number);
            fs::create_dir_all(&own)?;
            let certificates = own.join("certificates");
            if number == 0 {
                postroom(&["cluster", "init", &name(0), "--folder", text(&certificates)?])?;
            } else {
                let file = own.join("invitation.json");
                let authority = folder_of(0).join("certificates");
                let seed = format!("{}={}", name(0), reached(0));
                let invite = ["cluster", "invite", &name(number), "--folder", text(&authority)?];
                postroom(&[&invite[..], &["--seed", &seed, "--out", text(&file)?]].concat())?;
                let join = ["cluster", "join", text(&file)?, "--folder", text(&certificates)?];
                postroom(&join)?;
            }
            let seeds: Vec<String> = (0..nodes)
                .filter(|other| *other != number)
                .map(|other| format!("{}={}", name(other), reached(other)))
                .collect();
            let connection = match &proxies {
                Some(proxies) => {
                    let host = proxies.storage(number).folder().display().to_string();
                    let rest = connection.split(' ').filter(|word| !word.starts_with("host="));
                    format!("host={host} {}", rest.collect::<Vec<_>>().join(" "))
                }
                None => connection.clone(),
            };
            fs::write(
                own.join("node.toml"),
                format!(
                    "data = {data:?}\nname = {host:?}\n[imap]\nlisten = [\"127.0.0.1:0\"]\nplaintext_login = true\n[lmtp]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n[storage]\nengine = \"postgres\"\nconnection = {connection:?}\n[cluster]\nlisten = \"{link}\"\nadvertise = \"{reached}\"\ncertificates = {certificates:?}\nseeds = {seeds:?}\n[log]\nfilter = {log:?}\n{tables}",
                    data = own.join("data"),
                    host = name(number),
                    reached = reached(number),
                ),
            )?;
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            all.push(ClusterNode {
                name: name(number),
                imap: any,
                lmtp: any,
                admin: any,
                folder: own,
                child: None,
                number,
                proxies: proxies.clone(),
            });
        }
        let mut cluster = Self { postgres, nodes: all, proxies };
        for number in 0..nodes {
            cluster.nodes[number].start()?;
        }
        Ok(cluster)
    }

    /// What is between them.
    ///
    /// # Panics
    /// When it was started without.
    pub fn proxies(&self) -> &Arc<Proxies> {
        self.proxies.as_ref().expect("started with proxies")
    }

    /// Makes a user, whose password is [`PASSWORD`].
    pub fn add_user(&self, name: &str) -> Result<()> {
        let node = &self.nodes[0];
        node.command(&["user", "add", name], PASSWORD).map(drop)
    }
}

impl ClusterNode {
    /// Starts it, after a stop or a kill.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "node {} runs already", self.name);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        if let Some(proxies) = &self.proxies {
            proxies.opens(self.number)?;
        }
        let mut command = Command::new(program());
        command.args(["--json", "serve", "--config"]).arg(self.folder.join("node.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        // Ctrl-C is for whoever started us: the nodes are ended in good order, after it.
        let mut child = command.process_group(0).spawn()?;
        if let Some(proxies) = &self.proxies {
            proxies.runs(self.number, child.id());
        }
        let stdout = child.stdout.take().context("its output is ours")?;
        self.child = Some(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            self.kill();
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it says nothing").to_owned();
            bail!("node {} does not start: {last}", self.name);
        };
        let address = |value: &Value| -> Result<SocketAddr> {
            Ok(value.as_str().context("an address")?.parse()?)
        };
        self.imap = address(&ready["imap"][0])?;
        self.lmtp = address(&ready["lmtp"][0])?;
        self.admin = address(&ready["admin"])?;
        Ok(())
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it says goes here.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            if let Some(proxies) = &self.proxies {
                proxies.ends(self.number);
            }
            // Fails only when it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it in good order; its exit code.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        signal("-TERM", child.id())?;
        let ended = eventually("the node stops after SIGTERM", || child.try_wait().ok().flatten());
        if let Some(proxies) = &self.proxies {
            proxies.ends(self.number);
        }
        Ok(ended.code())
    }

    /// How it has ended by itself, if it has: nobody killed or stopped it.
    pub fn ended_by_itself(&mut self) -> Option<std::process::ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Halts it: it hears and says nothing until [`resume`](Self::resume).
    pub fn pause(&self) -> Result<()> {
        signal("-STOP", self.pid().context("it does not run")?)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        signal("-CONT", self.pid().context("it does not run")?)
    }

    /// How its stores are, as its admin API says. Without a process of its own, as a command would be: whoever
    /// follows something asks often, on a machine that has other things to do.
    pub fn stores(&self) -> Result<Vec<Value>> {
        let token = fs::read_to_string(self.folder.join("data/admin-token"))?;
        let mut stream = TcpStream::connect_timeout(&self.admin, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /v1/stores HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.admin,
            token.trim()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{}", head.lines().next().unwrap_or("nothing"));
        Ok(serde_json::from_str(body)?)
    }

    /// An operator's command on it; what it printed as JSON lines.
    pub fn command(&self, args: &[&str], input: &str) -> Result<Vec<Value>> {
        let token = self.folder.join("data/admin-token");
        let mut child = Command::new(program())
            .arg("--json")
            .args(args)
            .args(["--admin", &self.admin.to_string(), "--token-file"])
            .arg(token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("its input is ours")?;
        // It may not want any.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let done = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{args:?}: {}", said.trim());
        let lines = String::from_utf8(done.stdout)?;
        Ok(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }
}

impl Drop for ClusterNode {
    fn drop(&mut self) {
        self.kill();
    }
}

fn signal(name: &str, pid: u32) -> Result<()> {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status()?;
    ensure!(sent.success(), "process {pid} is gone already");
    Ok(())
}

fn postroom(args: &[&str]) -> Result<()> {
    let done = Command::new(program()).args(args).output()?;
    ensure!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// An address on which nobody listens. Somebody may, before it is used: then the node says so. It is below the
/// ports that the system gives to whoever dials, so that it can be let go and taken again.
pub fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests run beside each other: each process begins elsewhere.
    let own = (std::process::id() % 997) as u16 * 11;
    for _ in 0..PORTS.len() {
        let offset = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u16;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", PORTS.start + offset)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no port is free among {PORTS:?}")
}
