//! Who is not let in, and whom we do not talk to: each refused, counted, and told apart.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use common::*;
use postroom_cluster::certificates::{Reach, Revoked, renew, revoke};
use postroom_cluster::links::{
    LinkError, LinkState, Links, MAX_DATAGRAM_OCTETS, Notice, WireVersion,
};
use postroom_cluster::refusals::Reason;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const DAY: Duration = Duration::from_secs(86_400);

/// Waits until so many were refused; one more is a failure.
async fn until_refused(node: &Node, reason: &str, count: u64) {
    eventually(reason, || {
        let refused = node.refused(reason);
        assert!(refused <= count, "{reason}: {refused}");
        refused == count
    })
    .await;
}

/// The same for a peer whose link is kept: it comes again and again.
async fn until_refused_often(node: &Node, reason: &str) {
    eventually(reason, || node.refused(reason) >= 1).await;
}

/// A TLS client with our authority and, if told, the first node's certificate, but with its own mind
/// on the rest.
fn tls(
    cluster: &Cluster,
    with_certificate: bool,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsConnector {
    let own = cluster.directory("one").join("node.pem");
    tls_with(cluster, with_certificate.then_some(own.as_path()), versions)
}

fn tls_with(
    cluster: &Cluster,
    certificate: Option<&Path>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsConnector {
    cluster.credentials("one");
    let authority = std::fs::read(cluster.directory("one").join("authority.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&authority).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        Some(file) => {
            let pem = std::fs::read(file).unwrap();
            let chain = vec![CertificateDer::from_pem_slice(&pem).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn connect(
    cluster: &Cluster,
    node: &Node,
    connector: TlsConnector,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = node.name.dns_name(&cluster.authority.cluster());
    let tcp = TcpStream::connect(node.server.address()).await.unwrap();
    connector.connect(ServerName::try_from(name).unwrap(), tcp).await
}

async fn still_serves(cluster: &Cluster, node: &Node) {
    let links = cluster.links("first");
    links.set_address(&node.name, &node.address()).unwrap();
    assert_eq!(ask(&links, &node.name, "hello").await.unwrap().payload, "hello");
}

#[tokio::test]
async fn plain_text_and_rubbish_are_refused_and_counted() {
    let (cluster, _links, two) = pair().await;
    for (count, words) in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0; 99]]
            .into_iter()
            .enumerate()
    {
        let mut tcp = TcpStream::connect(two.server.address()).await.unwrap();
        tcp.write_all(words).await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good an end as any.
        let _ = soon("the end", tcp.read_to_end(&mut answer)).await;
        until_refused(&two, "not_tls", count as u64 + 1).await;
    }
    drop(TcpStream::connect(two.server.address()).await.unwrap());
    until_refused(&two, "gave_up", 1).await;
    still_serves(&cluster, &two).await;
}

#[tokio::test]
async fn tls_without_a_certificate_or_of_an_older_version_is_refused() {
    let (cluster, _links, two) = pair().await;
    let mut stream =
        connect(&cluster, &two, tls(&cluster, false, &[&rustls::version::TLS13])).await.unwrap();
    let read = soon("the end", stream.read(&mut [0; 64])).await;
    assert!(read.is_err(), "{read:?}");
    until_refused(&two, "no_certificate", 1).await;
    let old = connect(&cluster, &two, tls(&cluster, true, &[&rustls::version::TLS12])).await;
    assert!(old.is_err());
    until_refused(&two, "not_tls", 1).await;
    still_serves(&cluster, &two).await;
}

#[tokio::test]
async fn rubbish_after_the_handshake_ends_that_connection_and_no_other() {
    let (cluster, _links, two) = pair().await;
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    println!("seed {seed:#x}");
    for count in 0..40 {
        let connector = tls(&cluster, true, &[&rustls::version::TLS13]);
        let mut stream = connect(&cluster, &two, connector).await.unwrap();
        let mut octets = Vec::new();
        if count % 2 == 1 {
            octets.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            octets.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]); // Empty settings.
        }
        for _ in 0..200 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            octets.push((seed >> 33) as u8);
        }
        let _ = stream.write_all(&octets).await; // It may have hung up already.
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = soon("the end", stream.read_to_end(&mut answer)).await;
        until_refused(&two, "nonsense", count + 1).await;
    }
    eventually("nobody left", || two.server.peers().is_empty()).await;
    still_serves(&cluster, &two).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_neither_let_in_nor_talked_to() {
    let (_ours, _links, two) = pair().await;
    let theirs = Cluster::new();
    let links = theirs.links("one");
    links.set_address(&two.name, &two.address()).unwrap();
    let error = ask(&links, &two.name, "hello").await.unwrap_err();
    assert!(matches!(error, LinkError::WrongPeer(_)), "{error:?}");
    until_refused_often(&two, "gave_up").await;
    assert_eq!(two.fake.calls.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert!(matches!(links.refused()[..], [(Reason::Stranger, 1..)]), "{:?}", links.refused());
}

#[tokio::test]
async fn a_certificate_of_our_authority_for_no_node_is_not_let_in() {
    let (cluster, _links, two) = pair().await;
    let file = cluster.signed_for("mail.example.org");
    let connector = tls_with(&cluster, Some(&file), &[&rustls::version::TLS13]);
    let stream = connect(&cluster, &two, connector).await;
    let read = soon("the end", stream.unwrap().read(&mut [0; 64])).await;
    assert!(read.is_err(), "{read:?}");
    until_refused(&two, "wrong_name", 1).await;
    still_serves(&cluster, &two).await;
}

#[tokio::test]
async fn a_version_that_is_too_far_and_what_is_too_large_are_counted() {
    let (cluster, links, two) = pair().await;
    let far = common::links(cluster.credentials("three"), WireVersion(VERSION.0 + 2));
    far.set_address(&two.name, &two.address()).unwrap();
    let error = ask(&far, &two.name, "hello").await.unwrap_err();
    assert!(matches!(error, LinkError::Version { .. }), "{error:?}");
    until_refused_often(&two, "version").await;
    assert!(matches!(far.refused()[..], [(Reason::Version, 1..)]), "{:?}", far.refused());
    assert!(!links.gossip(&two.name, vec![0; MAX_DATAGRAM_OCTETS + 1].into()), "not sent");
    assert!(links.gossip(&two.name, vec![0; MAX_DATAGRAM_OCTETS].into()));
    assert_eq!(two.fake.next_datagram().await.1.len(), MAX_DATAGRAM_OCTETS);
}

#[tokio::test]
async fn a_stranger_who_trusts_us_is_still_not_let_in() {
    let (ours, _links, two) = pair().await;
    let theirs = Cluster::new();
    theirs.credentials("one");
    // Theirs, but with our authority beside it: it believes us, we do not believe it.
    let file = theirs.directory("one").join("node.pem");
    let connector = tls_with(&ours, Some(&file), &[&rustls::version::TLS13]);
    let stream = connect(&ours, &two, connector).await;
    let read = soon("the end", stream.unwrap().read(&mut [0; 64])).await;
    assert!(read.is_err(), "{read:?}");
    until_refused(&two, "stranger", 1).await;
}

#[tokio::test]
async fn another_node_at_a_peers_address_is_not_talked_to() {
    let cluster = Cluster::new();
    let (three, links) = (cluster.node("three").await, cluster.links("one"));
    links.set_address(&id("two"), &three.address()).unwrap();
    let error = ask(&links, &id("two"), "hello").await.unwrap_err();
    assert!(matches!(error, LinkError::WrongPeer(_)), "{error:?}");
    assert_eq!(three.fake.calls.load(std::sync::atomic::Ordering::Relaxed), 0);
    links.set_address(&id("two"), &cluster.node("two").await.address()).unwrap();
    assert_ne!(ask(&links, &id("two"), "hello").await, Err(error), "the address is corrected");
}

#[tokio::test]
async fn expired_certificates_are_refused_at_both_ends() {
    let cluster = Cluster::new();
    let two = cluster.node("two").await;
    let past = SystemTime::now() - 2 * DAY;
    let old = links(cluster.limited("old", past, DAY), VERSION);
    old.set_address(&two.name, &two.address()).unwrap();
    let error = ask(&old, &two.name, "hello").await.unwrap_err();
    assert!(matches!(&error, LinkError::NotAdmitted(_)), "{error:?}");
    until_refused_often(&two, "expired").await;

    let server = Node::start("ancient", cluster.limited("ancient", past, DAY), VERSION).await;
    let links = cluster.links("one");
    links.set_address(&server.name, &server.address()).unwrap();
    let error = ask(&links, &server.name, "hello").await.unwrap_err();
    assert!(matches!(&error, LinkError::WrongPeer(_)), "{error:?}");

    // One that is not yet good is not good.
    let early = links_of(&cluster, "early", SystemTime::now() + 2 * DAY);
    early.set_address(&two.name, &two.address()).unwrap();
    let error = ask(&early, &two.name, "hello").await.unwrap_err();
    assert!(matches!(&error, LinkError::NotAdmitted(_)), "{error:?}");
}

fn links_of(cluster: &Cluster, name: &str, from: SystemTime) -> Links {
    links(cluster.limited(name, from, DAY), VERSION)
}

#[tokio::test]
async fn a_certificate_that_expires_while_its_link_stands_ends_it() {
    let cluster = Cluster::new();
    let two = cluster.node("two").await;
    let short = cluster.limited("short", SystemTime::now(), Duration::from_secs(3));
    let links = links(short, VERSION);
    links.set_address(&two.name, &two.address()).unwrap();
    let hanging = soon("the end of its time", ask(&links, &two.name, "hang")).await;
    assert!(matches!(hanging, Err(LinkError::Unknown(_))), "{hanging:?}");
    until_refused_often(&two, "expired").await;
    two.fake.until_dropped(1).await;
}

#[tokio::test]
async fn a_revoked_peer_is_cut_off_at_once_and_not_let_in_again() {
    let cluster = Cluster::new();
    let credentials = cluster.credentials("two");
    let two = Node::start("two", credentials.clone(), VERSION).await;
    let links = cluster.links("one");
    links.set_address(&two.name, &two.address()).unwrap();
    ask(&links, &two.name, "hello").await.unwrap();
    let mut events = links.events(&two.name).unwrap();
    assert_eq!(soon("the stream", events.next()).await, Some(Notice::Up));

    revoke(&cluster.directory("two"), Revoked::Node(id("one"))).unwrap();
    credentials.look();
    assert!(matches!(soon("the cut", events.next()).await, Some(Notice::Down(_))));
    let error = ask(&links, &two.name, "hello").await.unwrap_err();
    assert!(matches!(&error, LinkError::NotAdmitted(_)), "{error:?}");
    eventually("the count", || two.refused("revoked") >= 2).await;
    still_serves(&cluster, &two).await;
}

#[tokio::test]
async fn what_is_revoked_at_one_node_is_refused_by_all_without_a_restart() {
    let cluster = Cluster::new();
    // Only the first one has the authority's key; it is linked with the second, and that with the third.
    let first = cluster.credentials("first");
    let one = Node::start("first", first.clone(), VERSION).await;
    let (two, three) = (cluster.node("two").await, cluster.node("three").await);
    let (near, far) = (cluster.links("two"), cluster.links("three"));
    near.set_address(&one.name, &one.address()).unwrap();
    far.set_address(&two.name, &two.address()).unwrap();
    ask(&near, &one.name, "hello").await.unwrap();
    ask(&far, &two.name, "hello").await.unwrap();
    let bad = cluster.links("bad");
    for node in [&one, &two, &three] {
        bad.set_address(&node.name, &node.address()).unwrap();
        ask(&bad, &node.name, "hello").await.unwrap();
    }
    let began = Instant::now();
    let reach = revoke(&cluster.directory("first"), Revoked::Node(id("bad"))).unwrap();
    assert_eq!(reach, Reach::Cluster);
    first.look(); // As a running node does each second.
    for node in [&one, &two, &three] {
        // The links look at their own files' copies: those of servers are others of the same directory.
        eventually("the cut", || {
            [&two, &three].iter().for_each(|node| node.credentials.look());
            node.refused("revoked") >= 1
        })
        .await;
        let error = ask(&bad, &node.name, "hello").await.unwrap_err();
        assert!(matches!(&error, LinkError::NotAdmitted(_)), "{error:?}");
    }
    println!("revoked at all after {:.1?}", began.elapsed());
    ask(&far, &two.name, "hello").await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_revoked_is_not_talked_to_any_more() {
    let cluster = Cluster::new();
    let (two, credentials) = (cluster.node("two").await, cluster.credentials("one"));
    let serial = cluster.credentials("two").current().holder.serial.clone();
    let links = links(credentials.clone(), VERSION);
    links.set_address(&two.name, &two.address()).unwrap();
    let hanging = tokio::spawn({
        let links = links.clone();
        async move { ask(&links, &id("two"), "hang").await }
    });
    two.fake.until_inside(1).await;
    revoke(&cluster.directory("one"), Revoked::Serial(serial)).unwrap();
    credentials.look();
    let hanging = soon("the cut", hanging).await.unwrap();
    assert!(matches!(hanging, Err(LinkError::Unknown(_))), "{hanging:?}");
    let error = ask(&links, &two.name, "hello").await.unwrap_err();
    assert!(matches!(&error, LinkError::WrongPeer(_)), "{error:?}");
}

/// Until the only link is one that was made after this.
async fn until_anew(links: &Links, renewed: Instant) {
    eventually("a new link", || {
        let status = links.status();
        matches!(status[0].state, LinkState::Up { since, .. } if since < renewed.elapsed())
    })
    .await;
}

#[tokio::test]
async fn a_link_that_was_given_up_for_a_new_one_is_cut_too() {
    let cluster = Cluster::new();
    let (two, credentials) = (cluster.node("two").await, cluster.credentials("first"));
    let links = links(credentials.clone(), VERSION);
    links.set_address(&two.name, &two.address()).unwrap();
    let hanging = tokio::spawn({
        let links = links.clone();
        async move { ask(&links, &id("two"), "hang").await }
    });
    two.fake.until_inside(1).await;
    renew(&cluster.directory("first"), SystemTime::now()).unwrap();
    let renewed = Instant::now();
    credentials.look();
    until_anew(&links, renewed).await;
    ask(&links, &two.name, "hello").await.unwrap();
    assert!(!hanging.is_finished(), "it goes on over the old one");

    revoke(&cluster.directory("first"), Revoked::Node(two.name.clone())).unwrap();
    let revoked = Instant::now();
    credentials.look();
    let hanging = soon("the cut", hanging).await.unwrap();
    assert!(matches!(hanging, Err(LinkError::Unknown(_))), "{hanging:?}");
    // It had 20 s.
    assert!(revoked.elapsed() < Duration::from_secs(10), "{:?}", revoked.elapsed());
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let cluster = Cluster::new();
    let directory = cluster.directory("first");
    let credentials = cluster.credentials("first");
    let server = Node::start("first", credentials.clone(), VERSION).await;
    let links = links(credentials.clone(), VERSION);
    let two = cluster.node("two").await;
    links.set_address(&two.name, &two.address()).unwrap();
    ask(&links, &two.name, "hello").await.unwrap();

    let issued = renew(&directory, SystemTime::now()).unwrap();
    let renewed = Instant::now();
    credentials.look();
    // Made with the old one, and then anew.
    until_anew(&links, renewed).await;
    ask(&links, &two.name, "hello").await.unwrap();
    // Whoever comes now sees the new one.
    let connector = tls(&cluster, true, &[&rustls::version::TLS13]);
    let stream = connect(&cluster, &server, connector).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let issued = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
    assert_eq!(shown, issued);
}

#[tokio::test]
async fn a_peer_has_a_few_connections_at_most_and_the_oldest_goes() {
    let (cluster, _links, two) = pair().await;
    let mut streams = Vec::new();
    for count in 1..=12 {
        let connector = tls(&cluster, true, &[&rustls::version::TLS13]);
        streams.push(connect(&cluster, &two, connector).await.unwrap());
        let most = count.min(4);
        eventually("the connection", || two.server.peers() == [(id("one"), most)]).await;
    }
    still_serves(&cluster, &two).await;
}

#[tokio::test]
async fn strangers_who_say_nothing_do_not_keep_peers_out() {
    let (cluster, _links, two) = pair().await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(two.server.address()).await.unwrap());
    }
    still_serves(&cluster, &two).await;
    eventually("the oldest to be given up", || two.refused("silent") >= 200).await;
}

/// Passes one connection on, and keeps what its dialer said.
async fn recorded(to: std::net::SocketAddr) -> (String, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let recording = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut heard, mut answers) = client.into_split();
        let (mut theirs, mut ours) = TcpStream::connect(to).await.unwrap().into_split();
        let back = tokio::spawn(async move {
            // It ends when either side does.
            let _ = tokio::io::copy(&mut theirs, &mut answers).await;
        });
        let (mut said, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(octets @ 1..) = heard.read(&mut piece).await {
            said.extend_from_slice(&piece[..octets]);
            if ours.write_all(&piece[..octets]).await.is_err() {
                break;
            }
        }
        back.abort();
        said
    });
    (address, recording)
}

#[tokio::test]
async fn a_link_that_was_recorded_cannot_be_played_again() {
    let cluster = Cluster::new();
    let (two, links) = (cluster.node("two").await, cluster.links("one"));
    let (address, recording) = recorded(two.server.address()).await;
    links.set_address(&two.name, &address).unwrap();
    ask(&links, &two.name, "hello").await.unwrap();
    assert!(links.gossip(&two.name, bytes::Bytes::from_static(b"news")));
    let mut datagrams = two.fake.datagrams_rx.lock().await;
    assert_eq!(soon("the datagram", datagrams.recv()).await.unwrap().1, "news");
    links.shutdown();
    let said = soon("the end of the link", recording).await.unwrap();
    assert!(said.len() > 500, "{}", said.len());
    let calls = two.fake.calls.load(Ordering::Relaxed);
    for count in 1..=5 {
        let mut tcp = TcpStream::connect(two.server.address()).await.unwrap();
        // It may hang up in the midst of it.
        let _ = tcp.write_all(&said).await;
        let mut answer = Vec::new();
        let _ = soon("the end", tcp.read_to_end(&mut answer)).await;
        until_refused(&two, "not_tls", count).await;
    }
    assert_eq!(two.fake.calls.load(Ordering::Relaxed), calls);
    assert!(datagrams.try_recv().is_err(), "nothing of it was heard again");
    drop(datagrams);
    still_serves(&cluster, &two).await;
}
