//! A private PostgreSQL for tests: no service, no fixed port, nothing left behind. It runs in a
//! temporary directory and listens on a socket in it only. Whatever ends the process that started it,
//! a panic and `kill -9` too, ends it: a watcher waits for the other end of a pipe to go.
//!
//! PostgreSQL refuses to run as root. Then it runs as another user, to whom its directory belongs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// How long a start may take: recovery after a kill included, on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at whether it is ready.
const LOOK: Duration = Duration::from_millis(20);
/// What the role of the tests is called; it may do everything.
const ROLE: &str = "postroom";

/// Ends a server and removes its directory when the pipe to it is closed.
const WATCHER: &str = r#"
cat > /dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null)
if [ -n "$pid" ] && grep -q -F "$1" "/proc/$pid/cmdline" 2> /dev/null; then
    children=$(cat "/proc/$pid/task/$pid/children" 2> /dev/null)
    kill -9 "$pid" $children 2> /dev/null
fi
rm -rf "$1"
"#;

/// A server of our own.
pub struct Postgres {
    directory: PathBuf,
    programs: PathBuf,
    user: Option<&'static str>,
    server: Mutex<Option<Child>>,
    databases: AtomicU32,
    /// Closes its standard input when this process ends.
    _watcher: Child,
}

impl Postgres {
    /// The one of this process, for tests that only use it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]).unwrap_or_else(|error| panic!("{error:#}")))
    }

    /// One more, for tests that stop or kill it. With these settings, each `name=value`.
    pub fn start(settings: &[&str]) -> anyhow::Result<Self> {
        let postgres = Self::prepare()?;
        postgres.set_up(settings)?;
        postgres.start_again()?;
        Ok(postgres)
    }

    /// A standby of this one, which gets all that is written here, until it is cut off or this one ends.
    pub fn standby(&self) -> anyhow::Result<Self> {
        let standby = Self::prepare()?;
        let data = standby.directory.join("data");
        let mut backup = standby.command("pg_basebackup");
        backup.args(["-U", ROLE, "-X", "stream", "--checkpoint=fast", "--no-sync", "-R", "-h"]);
        done(backup.arg(&self.directory).arg("-D").arg(&data))?;
        let file = data.join("postgresql.auto.conf");
        let socket = standby.directory.display();
        let text = std::fs::read_to_string(&file)?;
        std::fs::write(&file, format!("{text}unix_socket_directories = '{socket}'\n"))?;
        standby.start_again()?;
        Ok(standby)
    }

    fn prepare() -> anyhow::Result<Self> {
        let programs = programs()?;
        let directory = tempfile::Builder::new().prefix("postroom-pg-").tempdir()?.keep();
        let user = other_user()?;
        if let Some(user) = user {
            done(Command::new("chown").arg(format!("{user}:")).arg(&directory))?;
        }
        let watcher = Command::new("sh")
            .args(["-c", WATCHER, "watcher"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .spawn()
            .context("sh cannot be started")?;
        Ok(Self {
            directory,
            programs,
            user,
            server: Mutex::new(None),
            databases: AtomicU32::new(0),
            _watcher: watcher,
        })
    }

    fn set_up(&self, settings: &[&str]) -> anyhow::Result<()> {
        let data = self.directory.join("data");
        let mut initdb = self.command("initdb");
        initdb.args(["-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]);
        done(initdb.arg(&data))?;
        let socket = self.directory.display();
        let mut text = format!(
            "listen_addresses = ''\nunix_socket_directories = '{socket}'\nmax_connections = 300\n\
             shared_buffers = '64MB'\n"
        );
        for setting in settings {
            text += setting;
            text += "\n";
        }
        let file = data.join("postgresql.auto.conf");
        std::fs::write(&file, text).with_context(|| format!("{} cannot be written", file.display()))
    }

    /// Starts it, after a stop or a kill, and comes back when it takes connections.
    pub fn start_again(&self) -> anyhow::Result<()> {
        let mut server = self.server();
        ensure!(server.is_none(), "PostgreSQL is running already");
        let start = Instant::now();
        let mut child = self.launch()?;
        loop {
            if self.takes_connections() {
                *server = Some(child);
                return Ok(());
            }
            if child.try_wait()?.is_some() {
                // Processes of the one that was killed may still hold its memory.
                ensure!(start.elapsed() < PATIENCE, "PostgreSQL does not start: {}", self.log());
                child = self.launch()?;
            }
            ensure!(start.elapsed() < PATIENCE, "PostgreSQL is not ready: {}", self.log());
            std::thread::sleep(LOOK);
        }
    }

    fn launch(&self) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(self.directory.join("log"))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.directory.join("data"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().context("PostgreSQL cannot be started")
    }

    fn takes_connections(&self) -> bool {
        let mut command = Command::new(self.programs.join("pg_isready"));
        command.arg("-q").arg("-h").arg(&self.directory).args(["-d", "postgres", "-U", ROLE]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Ends it in good order, without waiting for whoever is connected.
    pub fn stop(&self) -> anyhow::Result<()> {
        let Some(mut server) = self.server().take() else { return Ok(()) };
        signal("-INT", &[server.id()])?;
        server.wait()?;
        Ok(())
    }

    /// Ends all its processes at once, with `kill -9`.
    pub fn kill(&self) -> anyhow::Result<()> {
        let Some(mut server) = self.server().take() else { return Ok(()) };
        let all = family(server.id());
        // Some may have ended by themselves meanwhile.
        let _ = signal("-KILL", &all);
        server.wait()?;
        Ok(())
    }

    /// Halts all its processes: whoever waits for it hears nothing.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.to_all("-STOP")
    }

    /// Lets them go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.to_all("-CONT")
    }

    fn to_all(&self, name: &str) -> anyhow::Result<()> {
        let server = self.server();
        let server = server.as_ref().context("PostgreSQL is not running")?;
        signal(name, &family(server.id()))
    }

    /// A new database; how to connect to it.
    pub fn database(&self) -> anyhow::Result<String> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(&self.connection("postgres"), &format!("CREATE DATABASE {name}"))?;
        Ok(self.connection(&name))
    }

    /// How to connect to a database.
    pub fn connection(&self, database: &str) -> String {
        format!("host={} user={ROLE} dbname={database}", self.directory.display())
    }

    /// How to connect to a database of this one or of another one, whichever takes writes.
    pub fn connection_or(&self, other: &Self, database: &str) -> String {
        let (one, other) = (self.directory.display(), other.directory.display());
        format!("host={one},{other} user={ROLE} dbname={database}")
    }

    /// Comes back when a standby has applied all that was committed here so far.
    pub fn wait_for(&self, standby: &Self) -> anyhow::Result<()> {
        let at = self.ask("SELECT pg_current_wal_insert_lsn()")?;
        standby.wait_until(&format!("SELECT pg_last_wal_replay_lsn() >= '{at}'"))
    }

    /// Lets a standby get nothing any more.
    pub fn cut_off(&self) -> anyhow::Result<()> {
        self.ask("ALTER SYSTEM SET primary_conninfo = ''")?;
        self.ask("SELECT pg_reload_conf()")?;
        self.wait_until("SELECT count(*) = 0 FROM pg_stat_wal_receiver")
    }

    /// Makes a standby a server of its own.
    pub fn promote(&self) -> anyhow::Result<()> {
        self.ask("SELECT pg_promote(false)")?;
        self.wait_until("SELECT NOT pg_is_in_recovery()")
    }

    fn ask(&self, statement: &str) -> anyhow::Result<String> {
        Ok(self.sql(&self.connection("postgres"), statement)?.trim().to_owned())
    }

    fn wait_until(&self, question: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.ask(question)? != "t" {
            ensure!(start.elapsed() < PATIENCE, "did not come true: {question}: {}", self.log());
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// What a statement answers, one row a line.
    pub fn sql(&self, connection: &str, statement: &str) -> anyhow::Result<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", connection]);
        done(psql.args(["-c", statement]))
    }

    /// The end of what it has said.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// A program of PostgreSQL, as the user that it may run as.
    fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        let mut command = match self.user {
            None => Command::new(path),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={user}")).arg(format!("--regid={}", group_of(user)));
                command.arg("--clear-groups").arg(path);
                command
            }
        };
        command.current_dir("/");
        command
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // In vain is no harm: the watcher does it when this process ends.
        let _ = self.kill();
        let _ = self._watcher.stdin.take();
        let _ = self._watcher.wait();
    }
}

/// Where the programs are.
fn programs() -> anyhow::Result<PathBuf> {
    let complete = |folder: &Path| {
        ["initdb", "postgres", "pg_basebackup", "pg_isready", "psql"]
            .iter()
            .all(|name| folder.join(name).is_file())
    };
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    let version = |path: &PathBuf| {
        let name = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        name.and_then(|name| name.parse::<f32>().ok()).unwrap_or(0.0)
    };
    debian.sort_by(|a, b| version(b).total_cmp(&version(a)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = debian.into_iter().chain(std::env::split_paths(&path)).find(|path| complete(path));
    found.context("the tests need PostgreSQL: run `cargo xtask tools`, or install postgresql")
}

/// Who runs it, where we may not do it ourselves.
fn other_user() -> anyhow::Result<Option<&'static str>> {
    if one_line(Command::new("id").arg("-u"))? != "0" {
        return Ok(None);
    }
    for user in ["postgres", "nobody"] {
        if done(Command::new("id").arg("-u").arg(user)).is_ok() {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

fn group_of(user: &str) -> String {
    one_line(Command::new("id").arg("-g").arg(user)).unwrap_or_else(|_| user.to_owned())
}

fn one_line(command: &mut Command) -> anyhow::Result<String> {
    Ok(done(command)?.trim().to_owned())
}

/// A server and the processes that it has started.
fn family(server: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    std::iter::once(server).chain(children).collect()
}

fn signal(name: &str, pids: &[u32]) -> anyhow::Result<()> {
    let mut kill = Command::new("kill");
    done(kill.arg(name).args(pids.iter().map(u32::to_string))).map(|_| ())
}

/// Runs a command to its end; what it has written.
fn done(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{name} cannot be started"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_before_a_kill_is_there_after_it() {
        let postgres = Postgres::start(&[]).unwrap();
        let database = postgres.database().unwrap();
        postgres.sql(&database, "CREATE TABLE t (n int)").unwrap();
        postgres.sql(&database, "INSERT INTO t VALUES (7)").unwrap();
        postgres.kill().unwrap();
        assert!(postgres.sql(&database, "SELECT n FROM t").is_err());
        postgres.start_again().unwrap();
        assert_eq!(postgres.sql(&database, "SELECT n FROM t").unwrap(), "7\n");
        assert_eq!(postgres.sql(&database, "SHOW fsync").unwrap(), "on\n");
    }

    #[test]
    fn a_standby_that_was_cut_off_does_not_have_what_came_later() {
        let primary = Postgres::start(&[]).unwrap();
        let database = primary.database().unwrap();
        let standby = primary.standby().unwrap();
        primary.sql(&database, "CREATE TABLE t (n int)").unwrap();
        primary.sql(&database, "INSERT INTO t VALUES (7)").unwrap();
        primary.wait_for(&standby).unwrap();
        standby.cut_off().unwrap();
        primary.sql(&database, "INSERT INTO t VALUES (8)").unwrap();
        primary.kill().unwrap();
        standby.promote().unwrap();
        let name = database.rsplit('=').next().unwrap();
        let rows = |connection: &str| standby.sql(connection, "SELECT n FROM t").unwrap();
        assert_eq!(rows(&standby.connection(name)), "7\n");
        assert_eq!(rows(&primary.connection_or(&standby, name)), "7\n");
        standby.sql(&standby.connection(name), "INSERT INTO t VALUES (9)").unwrap();
    }

    #[test]
    fn nothing_is_left_when_it_is_dropped() {
        let postgres = Postgres::start(&[]).unwrap();
        let directory = postgres.directory.clone();
        let pid = postgres.server().as_ref().map(Child::id).unwrap();
        drop(postgres);
        assert!(!directory.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
