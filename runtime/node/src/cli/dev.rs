//! `postroom dev`: a node to try things on, with lines to paste.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use postroom_core::calls::Secret;
use serde::Serialize;

use super::args::Dev;
use super::compose::Composed;
use super::doors::{Doors, Listening};
use super::output::Output;
use super::serve;

/// Octets of randomness in a password that nobody chose.
const PASSWORD_OCTETS: usize = 9;

#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    imap: SocketAddr,
    lmtp: SocketAddr,
    admin: SocketAddr,
    password: &'a str,
    data: String,
}

/// Runs the node until it is told to stop.
pub fn run(args: Dev, output: &Output) -> Result<()> {
    // Any user, one password, plain text: only where nobody else can reach it.
    for address in [args.imap, args.lmtp, args.admin] {
        if !address.ip().is_loopback() {
            bail!("{address} is no loopback address; for anything else use `postroom serve`");
        }
    }
    serve::start_logging(&args.log, super::config::LogFormat::Text)?;
    let password = match args.password.clone() {
        Some(password) => password,
        None => random_password()?,
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
    runtime.block_on(async {
        let secret = Secret(password.clone());
        let node =
            Composed::for_dev(&args.data, secret, args.store.as_deref(), &args.hooks).await?;
        let listening = node.listen(Doors::dev(&args)).await?;
        announce(&args, &listening, &password, output)?;
        serve::until_told_to_stop().await?;
        listening.stop().await;
        node.close().await
    })
}

fn random_password() -> Result<String> {
    use base64::Engine;
    let mut octets = [0; PASSWORD_OCTETS];
    getrandom::fill(&mut octets).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(octets))
}

fn announce(args: &Dev, listening: &Listening, password: &str, output: &Output) -> Result<()> {
    let (imap, lmtp, admin) = (listening.imap[0], listening.lmtp[0], listening.admin);
    let data = args.data.display().to_string();
    let ready = Ready { event: "ready", imap, lmtp, admin, password, data: data.clone() };
    output.result(&ready, || {
        format!(
            "Postroom {version} is ready; its data is in {data}.

  IMAP   {imap}   any user name, password {password}
  LMTP   {lmtp}   any recipient
  admin  http://{admin}/metrics

Deliver a mail to anna:
  printf 'LHLO me\\r\\nMAIL FROM:<you@example.org>\\r\\nRCPT TO:<anna>\\r\\nDATA\\r\\nSubject: Hello\\r\\n\\r\\nFirst mail.\\r\\n.\\r\\nQUIT\\r\\n' | curl -s telnet://{lmtp}

Read it:
  curl -s 'imap://anna:{password}@{imap}/INBOX;MAILINDEX=1'

Fetch everything into ./mail with mbsync:
  mkdir -p mail && printf 'IMAPStore far\\nHost {host}\\nPort {port}\\nUser anna\\nPass {password}\\nSSLType None\\nAuthMechs LOGIN\\n\\nMaildirStore near\\nPath mail/\\nInbox mail/INBOX\\nSubFolders Verbatim\\n\\nChannel all\\nFar :far:\\nNear :near:\\nPatterns *\\nCreate Near\\nSyncState *\\n' > mbsyncrc && mbsync -c mbsyncrc -a

In a mail client: IMAP server {host}, port {port}, no encryption, user anna, password {password}

Ctrl-C stops it.",
            version = env!("CARGO_PKG_VERSION"),
            host = imap.ip(),
            port = imap.port(),
        )
    })
}
