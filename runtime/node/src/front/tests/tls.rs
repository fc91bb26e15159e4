//! STARTTLS, implicit TLS, and certificates that change under way.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::listener::{any_port, door};
use super::{PATIENCE, hear, hear_rest, send, soon};
use crate::front::{Connections, Door, Front, Timing, Tls};

/// A certificate for localhost, made new.
struct Certificate {
    certificate: String,
    key: String,
    der: CertificateDer<'static>,
}

fn certificate() -> Certificate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Certificate {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
        der: made.cert.der().clone(),
    }
}

/// Puts a file in place as careful programs do: written beside it and renamed.
fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, path).unwrap();
}

struct Rig {
    folder: tempfile::TempDir,
    door: Door,
    front: Front,
}

impl Rig {
    fn new(first: &Certificate) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), &first.certificate).unwrap();
        std::fs::write(folder.path().join("key.pem"), &first.key).unwrap();
        let (mut door, ..) = door(Connections::new(10, 10));
        door.tls = Some(Arc::new(Self::open(folder.path()).unwrap()));
        Self { folder, door, front: Front::new() }
    }

    fn open(folder: &Path) -> Result<Tls, crate::front::tls::TlsError> {
        Tls::open(&folder.join("cert.pem"), &folder.join("key.pem"), Duration::ZERO)
    }

    async fn listen(&self, implicit_tls: bool) -> SocketAddr {
        self.front.open(Door { implicit_tls, ..self.door.clone() }, any_port()).await.unwrap()
    }
}

async fn handshake(
    socket: TcpStream,
    trusted: &Certificate,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    soon("a handshake", TlsConnector::from(Arc::new(config)).connect(name, socket)).await
}

async fn trusts(address: SocketAddr, certificate: &Certificate) -> bool {
    let socket = TcpStream::connect(address).await.unwrap();
    match handshake(socket, certificate).await {
        Ok(mut client) => {
            hear(&mut client, "hello\n").await;
            true
        }
        Err(_) => false,
    }
}

#[tokio::test]
async fn starttls_goes_on_in_place_and_what_was_sent_before_it_is_dropped() {
    let certificate = certificate();
    let rig = Rig::new(&certificate);
    let mut client = TcpStream::connect(rig.listen(false).await).await.unwrap();
    hear(&mut client, "hello\n").await;
    send(&mut client, "tls\nsay injected\n").await;
    hear(&mut client, "go\n").await;
    let mut client = handshake(client, &certificate).await.unwrap();
    hear(&mut client, "secure\n").await;
    send(&mut client, "say protected\nbig 1000000\n").await;
    hear(&mut client, "protected\n").await;
    hear(&mut client, &"x".repeat(1_000_000)).await;
    send(&mut client, "quit\n").await;
    assert_eq!(hear_rest(&mut client).await, "bye\n");
}

#[tokio::test]
async fn implicit_tls_begins_with_the_handshake_and_rubbish_ends_it() {
    let certificate = certificate();
    let rig = Rig::new(&certificate);
    let address = rig.listen(true).await;
    assert!(trusts(address, &certificate).await);
    let mut rude = TcpStream::connect(address).await.unwrap();
    send(&mut rude, "a1 LOGIN anna secret\r\n").await;
    assert!(!hear_rest(&mut rude).await.contains("hello"));
}

#[tokio::test]
async fn a_client_that_never_finishes_its_handshake_is_dropped_and_stops_nobody() {
    let certificate = certificate();
    let mut rig = Rig::new(&certificate);
    rig.door.timing = Timing { handshake: Duration::from_millis(20), ..Timing::default() };
    let address = rig.listen(true).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(hear_rest(&mut silent).await, "");
    rig.door.timing = Timing::default();
    let address = rig.listen(true).await;
    let _silent = TcpStream::connect(address).await.unwrap();
    assert!(trusts(address, &certificate).await);
    assert!(soon("the front stops", rig.front.stop(PATIENCE)).await);
}

#[tokio::test]
async fn a_changed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let (first, second, third) = (certificate(), certificate(), certificate());
    let rig = Rig::new(&first);
    let address = rig.listen(true).await;
    let (cert, key) = (rig.folder.path().join("cert.pem"), rig.folder.path().join("key.pem"));
    assert!(trusts(address, &first).await && !trusts(address, &second).await);
    replace(&cert, &second.certificate);
    assert!(trusts(address, &first).await, "without its key the new one is not used");
    replace(&key, &second.key);
    assert!(trusts(address, &second).await && !trusts(address, &first).await);
    replace(&cert, "rubbish");
    assert!(trusts(address, &second).await);
    std::fs::remove_file(&cert).unwrap();
    assert!(trusts(address, &second).await);
    replace(&cert, &third.certificate);
    replace(&key, &third.key);
    assert!(trusts(address, &third).await);
}

#[test]
fn files_that_are_no_certificate_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |expected: &str| {
        let error = Rig::open(folder.path()).err().expect("refused").to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    };
    refused("cert.pem cannot be read");
    std::fs::write(folder.path().join("cert.pem"), "rubbish").unwrap();
    refused("has no certificate");
    std::fs::write(folder.path().join("cert.pem"), certificate().certificate).unwrap();
    refused("key.pem cannot be read");
    std::fs::write(folder.path().join("key.pem"), certificate().key).unwrap();
    refused("cannot be used");
}
