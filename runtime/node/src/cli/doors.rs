//! The doors of a node: which addresses it listens on, with which sessions behind them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postroom_core::budget::Budget;
use postroom_core::imap::session::{self as imap, ImapSession};
use postroom_core::lmtp;

use super::args::Dev;
use super::compose::Composed;
use super::config::{Config, Limits};
use super::identity::write_durably;
use crate::front::admin::{self, Admin};
use crate::front::listener::MakeSession;
use crate::front::meters;
use crate::front::{Connections, Door, Front, Peer, Protocol, Timing, Tls, lmtp_sessions, tls};
use crate::message_store::MessageStore;

/// How long sessions have for their goodbye when the node stops: a call under way may take that
/// long, a service manager waits longer.
const GRACE: Duration = Duration::from_secs(20);
/// Memory for messages in arrival, over LMTP and by APPEND together, in multiples of the largest
/// message: bounds the node's memory whatever the number of connections.
const ARRIVING_MESSAGES: u64 = 8;
/// Octets of randomness in an admin token.
const TOKEN_OCTETS: usize = 24;

/// What a node listens on.
pub struct Doors {
    name: String,
    imap: Vec<SocketAddr>,
    imap_tls: Vec<SocketAddr>,
    lmtp: Vec<SocketAddr>,
    admin: SocketAddr,
    tls: Option<Arc<Tls>>,
    plaintext_login: bool,
    limits: Limits,
    /// What requests to the admin API must bear; `None`: nothing (loopback of `postroom dev`).
    token: Option<String>,
}

/// Open doors, with the addresses that they got.
pub struct Listening {
    /// IMAP.
    pub imap: Vec<SocketAddr>,
    /// IMAP that begins with TLS.
    pub imap_tls: Vec<SocketAddr>,
    /// LMTP.
    pub lmtp: Vec<SocketAddr>,
    /// The admin API.
    pub admin: SocketAddr,
    front: Front,
}

impl Doors {
    /// Of `postroom dev`: loopback only, so without TLS and tokens.
    pub fn dev(args: &Dev) -> Self {
        Self {
            name: "localhost".into(),
            imap: vec![args.imap],
            imap_tls: Vec::new(),
            lmtp: vec![args.lmtp],
            admin: args.admin,
            tls: None,
            plaintext_login: true,
            limits: Limits { connections_per_address: usize::MAX, ..Limits::default() },
            token: None,
        }
    }

    /// Of `postroom serve`.
    pub fn service(config: &Config) -> Result<Self> {
        let tls = match config.tls.certificate.as_os_str().is_empty() {
            true => None,
            false => {
                let opened = Tls::open(&config.tls.certificate, &config.tls.key, tls::LOOK_EVERY);
                Some(Arc::new(opened.context("the TLS certificate")?))
            }
        };
        Ok(Self {
            name: config.name.clone(),
            imap: config.imap.listen.clone(),
            imap_tls: config.imap.listen_tls.clone(),
            lmtp: config.lmtp.listen.clone(),
            admin: config.admin.listen,
            tls,
            plaintext_login: config.imap.plaintext_login,
            limits: config.limits.clone(),
            token: Some(admin_token(&config.token_file())?),
        })
    }

    /// One for all doors through which messages arrive.
    fn budget(&self) -> Arc<Budget> {
        Arc::new(Budget::new(self.limits.message_octets.saturating_mul(ARRIVING_MESSAGES)))
    }

    fn imap_sessions(&self, budget: Arc<Budget>) -> Arc<MakeSession> {
        let (tls_available, plaintext_login) = (self.tls.is_some(), self.plaintext_login);
        let (name, max_message_octets) = (self.name.clone(), self.limits.message_octets);
        Arc::new(move |peer: Peer| {
            Box::new(ImapSession::new(imap::Config {
                tls_available,
                tls_active: peer.tls,
                plaintext_login,
                max_message_octets,
                budget: budget.clone(),
                name: name.clone(),
                ..imap::Config::default()
            }))
        })
    }

    fn lmtp_sessions(&self, budget: Arc<Budget>) -> Arc<MakeSession> {
        lmtp_sessions(Arc::new(lmtp::Config {
            name: self.name.clone(),
            max_message_octets: self.limits.message_octets,
            starttls: self.tls.is_some(),
            budget,
        }))
    }
}

/// Opens one address; what the error says names it.
async fn open(front: &Front, door: &Door, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>> {
    let mut opened = Vec::new();
    for address in addresses {
        let address = front.open(door.clone(), *address).await.with_context(|| {
            format!("cannot listen on {address} for {}; choose another", door.protocol.name())
        })?;
        opened.push(address);
    }
    Ok(opened)
}

impl Composed {
    fn admin(&self, doors: &Doors) -> Result<Admin> {
        let info = self.info();
        Ok(Admin {
            operations: Arc::new(self.message_store.clone()),
            stores: self.deployments(),
            metrics: meters::install().context("cannot start the metrics")?,
            info: Arc::new(info),
            token: doors.token.clone(),
            max_message_octets: doors.limits.message_octets,
        })
    }

    /// Opens the doors.
    pub async fn listen(&self, doors: Doors) -> Result<Listening> {
        let front = Front::new();
        let connections = || {
            Arc::new(Connections::new(
                doors.limits.connections,
                doors.limits.connections_per_address,
            ))
        };
        let store: MessageStore = self.message_store.clone();
        let budget = doors.budget();
        let imap = Door {
            protocol: Protocol::Imap,
            sessions: doors.imap_sessions(budget.clone()),
            store: Arc::new(store.clone()),
            connections: connections(),
            tls: doors.tls.clone(),
            implicit_tls: false,
            timing: Timing::default(),
        };
        let imap_tls = Door { implicit_tls: true, ..imap.clone() };
        let lmtp = Door {
            protocol: Protocol::Lmtp,
            sessions: doors.lmtp_sessions(budget),
            connections: connections(),
            ..imap.clone()
        };
        let admin =
            admin::open(&front, doors.admin, self.admin(&doors)?).await.with_context(|| {
                format!("cannot listen on {} for the admin API; choose another", doors.admin)
            })?;
        Ok(Listening {
            imap: open(&front, &imap, &doors.imap).await?,
            imap_tls: open(&front, &imap_tls, &doors.imap_tls).await?,
            lmtp: open(&front, &lmtp, &doors.lmtp).await?,
            admin,
            front,
        })
    }
}

impl Listening {
    /// Says goodbye to every client and closes the doors.
    pub async fn stop(self) {
        self.front.stop(GRACE).await;
    }
}

/// The token in this file, which is made when it is missing; only its owner can read it.
fn admin_token(file: &Path) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let context = || format!("the admin token {}", file.display());
    match std::fs::read_to_string(file) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => bail!("the admin token {} is empty; remove it to get a new one", file.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(context),
    }
    let mut octets = [0; TOKEN_OCTETS];
    getrandom::fill(&mut octets).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let token = hex::encode(octets);
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = file.file_name().and_then(|name| name.to_str()).with_context(context)?;
    write_durably(folder, name, token.as_bytes()).with_context(context)?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).with_context(context)?;
    Ok(token)
}
