//! Dovecot from Debian's package, started privately: its own folder, its own ports, no service.
//! Its settings are Dovecot's defaults but for what is said in [`configuration`].

use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use postroom_system::eventually;

use crate::machine;

const PROGRAM: &str = "/usr/sbin/dovecot";

/// A running Dovecot; ended by its pid when dropped.
pub struct Dovecot {
    child: Child,
    /// Its IMAP address.
    pub imap: SocketAddr,
    /// Its LMTP address.
    pub lmtp: SocketAddr,
}

/// What the program says of itself.
pub fn version() -> anyhow::Result<String> {
    let advice = "cannot start dovecot: `cargo xtask tools --bench` fetches it; or measure without, with --alone";
    let output = Command::new(PROGRAM).arg("--version").output().context(advice)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split(' ').next().unwrap_or_default().trim().to_owned())
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Dovecot {
    /// Starts it over sdbox with an fsync for each message, as Postroom does.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let version = version()?;
        if !version.starts_with("2.3.") {
            bail!(
                "Dovecot {version} reads other settings than 2.3, which these are for; measure with --alone"
            );
        }
        let (imap, lmtp) = (free_port()?, free_port()?);
        let home = folder.join("dovecot");
        for part in ["run", "state", "mail"] {
            std::fs::create_dir_all(home.join(part))?;
        }
        // Its mail processes run as another user than the one who made the folders, and may never
        // be root's.
        for open in [folder, &home, &home.join("mail")] {
            std::fs::set_permissions(open, Permissions::from_mode(0o777))?;
        }
        let config = home.join("dovecot.conf");
        std::fs::write(&config, configuration(&home, imap, lmtp))?;
        let mut command = Command::new(PROGRAM);
        command.arg("-F").arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().context("cannot start dovecot")?;
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Self { child, imap: address(imap), lmtp: address(lmtp) };
        server.wait_until_it_listens(&home.join("log"))?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self, log: &PathBuf) -> anyhow::Result<()> {
        let (imap, lmtp) = (self.imap, self.lmtp);
        let listens = eventually("Dovecot listens or has ended", || {
            let open = [imap, lmtp].iter().all(|door| TcpStream::connect(door).is_ok());
            let ended = self.child.try_wait().ok().flatten().is_some();
            (open || ended).then_some(open)
        });
        if !listens {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            bail!("Dovecot has ended: {}", log.lines().last().unwrap_or("it says nothing"));
        }
        Ok(())
    }

    /// Its master process: all others are its children.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

fn configuration(home: &Path, imap: u16, lmtp: u16) -> String {
    format!(
        "base_dir = {home}/run\nstate_dir = {home}/state\nlog_path = {home}/log\n\
         protocols = imap lmtp\nssl = no\ndisable_plaintext_auth = no\n\
         # What is acknowledged is durable, as it is in Postroom.\n\
         mail_location = sdbox:{home}/mail/%n\nmail_fsync = always\n\
         # Debian's user `mail` has a low number.\n\
         first_valid_uid = 1\nmail_uid = mail\nmail_gid = mail\n\
         # More clients than a default allows.\n\
         mail_max_userip_connections = 10000\ndefault_client_limit = 20000\n\
         default_process_limit = 4000\nservice imap {{\n process_limit = 4000\n}}\n\
         postmaster_address = postmaster@example.org\n\
         passdb {{\n driver = static\n args = password=secret\n}}\n\
         userdb {{\n driver = static\n args = uid=mail gid=mail home={home}/mail/%n allow_all_users=yes\n}}\n\
         service imap-login {{\n inet_listener imap {{\n  address = 127.0.0.1\n  port = {imap}\n }}\n inet_listener imaps {{\n  port = 0\n }}\n}}\n\
         service lmtp {{\n inet_listener lmtp {{\n  address = 127.0.0.1\n  port = {lmtp}\n }}\n}}\n\
         namespace inbox {{\n inbox = yes\n separator = /\n}}\n",
        home = home.display(),
    )
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        let children = machine::tree(self.child.id());
        signal("-TERM", self.child.id());
        let _ = self.child.wait();
        // They end by themselves when their master has, but not at once, and their folder goes next.
        children.into_iter().filter(|pid| is_dovecot(*pid)).for_each(|pid| signal("-KILL", pid));
    }
}

/// Fails only when the process has ended already.
fn signal(signal: &str, pid: u32) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Whether a process still lives and is one of Dovecot's: its number may be another's by now.
fn is_dovecot(pid: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.starts_with("/usr/lib/dovecot") || program == Path::new(PROGRAM)
}
