//! WASI 0.2 for language run-times, with nothing granted: no directory, no network, no environment.
//! What a component writes to standard output and error becomes log lines.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{FsPerms, WasiCtx};
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpHooks};

use super::error::LoadError;
use super::journal::Pen;
use super::limits::{DirectoryGrant, Grants};
use super::manifest::Manifest;

/// Longest log line in octets; the rest of a longer one is dropped.
const MAX_LINE_OCTETS: usize = 1024;
/// Octets that a guest may write at once: bounds what is held for it.
const WRITE_OCTETS: usize = 16 << 10;
/// Random octets that a guest may ask for at once.
const RANDOM_OCTETS: u64 = 64 << 10;

/// What one instance is granted, made once per component.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    directories: Vec<DirectoryGrant>,
    http: Arc<[String]>,
    settings: Arc<BTreeMap<String, String>>,
}

impl Granted {
    /// Whether a call may wait for something outside that the host does not answer for.
    pub(super) fn reaches_outside(&self) -> bool {
        !self.http.is_empty() || !self.directories.is_empty()
    }

    /// What a component asks for *and* is granted. A directory that cannot be opened refuses the
    /// load.
    pub(super) fn new(
        manifest: Option<&Manifest>,
        grants: &Grants,
        http: Vec<String>,
    ) -> Result<Self, LoadError> {
        let asked = manifest.map(|m| m.asks.directories.as_slice()).unwrap_or_default();
        let mut directories = Vec::new();
        for asked in asked {
            let Some(grant) = grants.directories.iter().find(|grant| grant.name == asked.name)
            else {
                continue;
            };
            let failed = |reason: String| LoadError::Directory { name: asked.name.clone(), reason };
            let entry = std::fs::metadata(&grant.path).map_err(|e| failed(e.to_string()))?;
            if !entry.is_dir() {
                return Err(failed(format!("{} is no directory", grant.path.display())));
            }
            directories.push(DirectoryGrant { write: grant.write && asked.write, ..grant.clone() });
        }
        let settings = Arc::new(grants.settings.clone());
        Ok(Self { directories, http: http.into(), settings })
    }

    /// Whether it may send HTTP requests at all.
    pub(super) fn has_http(&self) -> bool {
        !self.http.is_empty()
    }

    /// The WASI context of a fresh instance.
    pub(super) fn context(&self, log: &Log) -> wasmtime::Result<WasiCtx> {
        let mut builder = WasiCtx::builder();
        builder.stdout(log.stream("stdout")).stderr(log.stream("stderr"));
        builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        builder.max_random_size(RANDOM_OCTETS);
        for grant in &self.directories {
            let perms = if grant.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            builder.preopened_dir(&grant.path, format!("/{}", grant.name), perms)?;
        }
        Ok(builder.build())
    }

    /// What the operator has set for it.
    pub(super) fn settings(&self) -> Arc<BTreeMap<String, String>> {
        self.settings.clone()
    }

    /// What decides on each HTTP request of a fresh instance.
    pub(super) fn http(&self) -> HttpGrants {
        HttpGrants { hosts: self.http.clone() }
    }
}

/// Lets HTTP requests go to granted hosts only.
pub(super) struct HttpGrants {
    hosts: Arc<[String]>,
}

impl HttpGrants {
    fn allows(&self, uri: &http::Uri) -> bool {
        let Some(authority) = uri.authority() else { return false };
        let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let port = authority.port_u16().unwrap_or(default);
        self.hosts.iter().any(|granted| match granted.rsplit_once(':') {
            Some((host, granted_port)) if granted_port.parse::<u16>().is_ok() => {
                host.eq_ignore_ascii_case(authority.host()) && granted_port.parse() == Ok(port)
            }
            _ => granted.eq_ignore_ascii_case(authority.host()),
        })
    }
}

type Sent = Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>;

impl WasiHttpHooks for HttpGrants {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        sent: Sent,
    ) -> Box<
        dyn Future<Output = Result<(http::Response<WasiBody>, Sent), wasmtime_wasi_http::Error>>
            + Send,
    > {
        if !self.allows(request.uri()) {
            tracing::warn!(uri = %request.uri(), "store component: HTTP host is not granted");
            return Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) });
        }
        wasmtime_wasi_http::default_hooks().send_request(request, options, sent)
    }
}

/// Who hears what guests print: the stream, `stdout` or `stderr`, and a line. It must be quick: the
/// guest waits.
pub type Listener = Arc<dyn Fn(&'static str, String) + Send + Sync>;

/// Where one instance's lines go.
#[derive(Clone)]
pub(super) struct Log {
    inner: Arc<Mutex<LogState>>,
}

struct LogState {
    component: Arc<str>,
    instance: u64,
    listener: Option<Listener>,
    pen: Option<Pen>,
    lines: Allowance,
    /// The unfinished line of each stream: `stdout`, `stderr`.
    unfinished: [Vec<u8>; 2],
}

/// How many lines may still be written.
struct Allowance {
    per_second: u32,
    left: u32,
    since: Instant,
    dropped: u64,
}

impl Log {
    pub(super) fn new(component: Arc<str>, instance: u64, per_second: u32) -> Self {
        let lines = Allowance { per_second, left: per_second, since: Instant::now(), dropped: 0 };
        let unfinished = Default::default();
        let (listener, pen) = (None, None);
        let state = LogState { component, instance, listener, pen, lines, unfinished };
        Self { inner: Arc::new(Mutex::new(state)) }
    }

    /// Lets somebody hear each line, also those that the log does not get.
    pub(super) fn heard_by(self, listener: Option<Listener>) -> Self {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).listener = listener;
        self
    }

    /// Lets each line be remembered, also those that the log does not get.
    pub(super) fn written_by(self, pen: Pen) -> Self {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).pen = Some(pen);
        self
    }

    fn stream(&self, name: &'static str) -> LogStream {
        LogStream { log: self.clone(), name }
    }
}

impl LogState {
    fn write(&mut self, stream: &'static str, octets: &[u8]) {
        let which = usize::from(stream == "stderr");
        for part in octets.split_inclusive(|octet| *octet == b'\n') {
            let (text, complete) = match part {
                [text @ .., b'\n'] => (text, true),
                text => (text, false),
            };
            let line = &mut self.unfinished[which];
            let room = MAX_LINE_OCTETS.saturating_sub(line.len());
            line.extend_from_slice(&text[..text.len().min(room)]);
            if complete {
                let line = std::mem::take(line);
                self.line(stream, &line);
            }
        }
    }

    fn line(&mut self, stream: &'static str, line: &[u8]) {
        // Control characters would let a guest forge log lines or drive a terminal.
        let chars = String::from_utf8_lossy(line);
        let text: String = chars.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if let Some(pen) = &self.pen {
            pen.printed(stream, self.instance, &text);
        }
        if let Some(listener) = &self.listener {
            listener(stream, text.clone());
        }
        let now = Instant::now();
        if !self.lines.take(now) {
            return;
        }
        let (component, instance) = (&*self.component, self.instance);
        let dropped = std::mem::take(&mut self.lines.dropped);
        if dropped > 0 {
            tracing::info!(component, instance, dropped, "store component: lines were dropped");
        }
        tracing::info!(component, instance, stream, "store component: {text}");
    }
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.left = self.per_second;
        }
        if self.left == 0 {
            self.dropped += 1;
            return false;
        }
        self.left -= 1;
        true
    }
}

impl Drop for LogState {
    /// An unfinished line is often the reason of a trap.
    fn drop(&mut self) {
        for (which, stream) in ["stdout", "stderr"].into_iter().enumerate() {
            let line = std::mem::take(&mut self.unfinished[which]);
            if !line.is_empty() {
                self.line(stream, &line);
            }
        }
    }
}

/// One standard stream of one instance. Never blocks and never fails: a guest cannot tell whether
/// its lines are kept.
#[derive(Clone)]
struct LogStream {
    log: Log,
    name: &'static str,
}

impl LogStream {
    fn take(&self, octets: &[u8]) {
        let mut state = self.log.inner.lock().unwrap_or_else(PoisonError::into_inner);
        state.write(self.name, octets);
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, octets: Bytes) -> StreamResult<()> {
        self.take(&octets);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_OCTETS)
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.take(octets);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_to_granted_hosts_and_ports_only() {
        let hosts = ["directory.example", "other.example:8443", "[::1]:80"];
        let grants = HttpGrants { hosts: hosts.map(str::to_owned).to_vec().into() };
        let check = |uri: &str, allowed| {
            assert_eq!(grants.allows(&uri.parse().unwrap()), allowed, "{uri}");
        };
        check("https://directory.example/users", true);
        check("http://Directory.Example:8080/users", true);
        check("https://other.example:8443/", true);
        check("https://other.example/", false);
        check("http://[::1]/", true);
        check("http://[::1]:81/", false);
        check("https://evil.example/", false);
        check("https://directory.example.evil/", false);
        check("https://directory.example@evil.example/", false);
        check("/directory.example", false);
    }

    #[test]
    fn it_is_known_who_may_wait_for_something_outside() {
        let granted = |hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            Granted::new(None, &Grants::default(), hosts).unwrap()
        };
        assert!(!granted(&[]).reaches_outside());
        assert!(granted(&["directory.example"]).reaches_outside());
    }

    #[test]
    fn lines_beyond_the_allowance_are_counted() {
        let start = Instant::now();
        let mut lines = Allowance { per_second: 2, left: 2, since: start, dropped: 0 };
        let at = |ms| start + Duration::from_millis(ms);
        let taken = [0, 1, 2, 999, 1_000, 1_001, 1_002].map(|ms| lines.take(at(ms)));
        assert_eq!(taken, [true, true, false, false, true, true, false]);
        assert_eq!(lines.dropped, 3);
    }
}
