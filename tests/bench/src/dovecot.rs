//! Dovecot from Debian's package, started privately: its own folder, its own ports, no service.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use postroom_system::eventually;

/// A running Dovecot; ended by its pid when dropped.
pub struct Dovecot {
    child: Child,
    /// Its IMAP address.
    pub imap: SocketAddr,
    /// Its LMTP address.
    pub lmtp: SocketAddr,
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Dovecot {
    /// Starts it over sdbox with an fsync for each message, as Postroom does.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let (imap, lmtp) = (free_port()?, free_port()?);
        let home = folder.join("dovecot");
        for part in ["run", "state", "mail"] {
            std::fs::create_dir_all(home.join(part))?;
        }
        // Its processes run as another user than the one who made the folders.
        let open = |path: &Path| -> anyhow::Result<()> {
            use std::os::unix::fs::PermissionsExt;
            Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?)
        };
        open(folder)?;
        open(&home)?;
        open(&home.join("mail"))?;
        let config = home.join("dovecot.conf");
        std::fs::write(&config, configuration(&home, imap, lmtp))?;
        let child = Command::new("/usr/sbin/dovecot")
            .arg("-F")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start dovecot; `cargo xtask tools --bench` fetches it")?;
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let server = Self { child, imap: address(imap), lmtp: address(lmtp) };
        for door in [server.imap, server.lmtp] {
            eventually("Dovecot listens", || std::net::TcpStream::connect(door).ok());
        }
        Ok(server)
    }
}

fn configuration(home: &Path, imap: u16, lmtp: u16) -> String {
    format!(
        "base_dir = {home}/run\nstate_dir = {home}/state\nlog_path = {home}/log\nprotocols = imap lmtp\n\
         ssl = no\ndisable_plaintext_auth = no\nmail_fsync = always\n\
         mail_location = sdbox:{home}/mail/%n\nfirst_valid_uid = 1\nmail_uid = mail\nmail_gid = mail\n\
         mail_max_userip_connections = 10000\ndefault_client_limit = 20000\ndefault_process_limit = 2000\n\
         postmaster_address = postmaster@example.org\nauth_cache_size = 1M\n\
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
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}
