//! `postroom serve`: a node for real use.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::compose::Composed;
use super::config::{Config, LogFormat};
use super::doors::Doors;
use super::output::Output;
use crate::front::trace;

#[derive(Serialize)]
struct Ready {
    event: &'static str,
    imap: Vec<std::net::SocketAddr>,
    imap_tls: Vec<std::net::SocketAddr>,
    lmtp: Vec<std::net::SocketAddr>,
    admin: std::net::SocketAddr,
}

/// Runs the node until it is told to stop.
pub fn run(path: &Path, output: &Output) -> Result<()> {
    let config = Config::read(path)?;
    start_logging(&config.log.filter, config.log.format)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
    runtime.block_on(async {
        let node = Composed::for_service(&config).await?;
        let listening = node.listen(Doors::service(&config)?).await?;
        let ready = Ready {
            event: "ready",
            imap: listening.imap.clone(),
            imap_tls: listening.imap_tls.clone(),
            lmtp: listening.lmtp.clone(),
            admin: listening.admin,
        };
        output.result(&ready, || {
            format!(
                "Postroom {} is ready: IMAP {:?}, IMAP with TLS {:?}, LMTP {:?}, admin {}",
                env!("CARGO_PKG_VERSION"),
                ready.imap,
                ready.imap_tls,
                ready.lmtp,
                ready.admin
            )
        })?;
        let superseded = node.superseded();
        tokio::select! {
            // Cancel-safe both.
            told = until_told_to_stop() => told?,
            () = superseded.cancelled() => {}
        }
        listening.stop().await;
        node.close().await?;
        match superseded.is_cancelled() {
            true => bail!("another process has this node's name: was its data folder copied?"),
            false => Ok(()),
        }
    })
}

/// Waits for SIGTERM or SIGINT.
pub async fn until_told_to_stop() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        // Both are cancel-safe: a signal that is not taken here is taken by the default handler.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Starts logging to standard error.
pub fn start_logging(filter: &str, format: LogFormat) -> Result<()> {
    let json = matches!(format, LogFormat::Json);
    trace::start(filter, json).with_context(|| format!("the log filter {filter:?}"))
}
