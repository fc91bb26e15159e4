//! TLS to the database: what is taken, and what is refused.

use std::io::Write as _;

use super::*;

/// An authority and a server's certificate of it.
struct Authority {
    certificate: tempfile::NamedTempFile,
    server: (String, String),
}

fn authority() -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let mut certificate = tempfile::NamedTempFile::new().unwrap();
    certificate.write_all(ca.pem().as_bytes()).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let server_key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["db.test".to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &issuer).unwrap();
    Authority { certificate, server: (server.pem(), server_key.serialize_pem()) }
}

/// Whether the engine opens, and over TLS; otherwise the reason.
async fn opened(
    connection: &str,
    mode: Option<TlsMode>,
    ca: Option<&Authority>,
) -> Result<bool, String> {
    let mut options = PostgresOptions::new(connection);
    options.tls = TlsConfig { mode, ca_file: ca.map(|ca| ca.certificate.path().to_owned()) };
    let engine = PostgresEngine::open(options).await.map_err(|error| error.to_string())?;
    let client = engine.shared.connections.to_read().await.unwrap();
    let asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(client.query_one(asked, &[]).await.unwrap().get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_tls_is_verified_as_far_as_is_asked() {
    let (right, wrong) = (authority(), authority());
    let server = Postgres::start_on_tcp(Some((&right.server.0, &right.server.1))).unwrap();
    let database = server.database().unwrap();
    let name = database.rsplit('=').next().unwrap();
    let at = |host: &str| server.tcp_connection(host, name);
    let (named, misnamed) = (at("db.test"), at("other.test"));
    for mode in [None, Some(TlsMode::Prefer), Some(TlsMode::Require)] {
        assert_eq!(opened(&misnamed, mode, None).await, Ok(true), "{mode:?}");
        assert_eq!(opened(&misnamed, mode, Some(&right)).await, Ok(true), "{mode:?}");
        let refused = opened(&named, mode, Some(&wrong)).await.unwrap_err();
        assert!(
            refused.contains("invalid peer certificate") && !refused.contains('\n'),
            "{mode:?}: {refused}"
        );
    }
    let full = Some(TlsMode::VerifyFull);
    assert_eq!(opened(&named, full, Some(&right)).await, Ok(true));
    let refused = opened(&misnamed, full, Some(&right)).await.unwrap_err();
    assert!(refused.contains("db.test") && !refused.contains('\n'), "{refused}");
    assert!(opened(&named, full, Some(&wrong)).await.is_err());
    let refused = opened(&named, full, None).await.unwrap_err();
    assert!(refused.contains("ca_file"), "{refused}");
    // The server takes nobody without TLS.
    assert!(opened(&named, Some(TlsMode::Disable), None).await.is_err());
    assert!(opened(&format!("{named} sslmode=disable"), None, None).await.is_err());
    // Its socket has none, and needs none.
    assert_eq!(opened(&database, full, Some(&right)).await, Ok(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let ca = authority();
    let server = Postgres::start_on_tcp(None).unwrap();
    let database = server.database().unwrap();
    let connection = server.tcp_connection("db.test", database.rsplit('=').next().unwrap());
    for mode in [TlsMode::Require, TlsMode::VerifyFull] {
        let refused = opened(&connection, Some(mode), Some(&ca)).await.unwrap_err();
        assert!(refused.contains("TLS") && !refused.contains('\n'), "{refused}");
    }
    assert!(opened(&format!("{connection} sslmode=require"), None, None).await.is_err());
    for mode in [None, Some(TlsMode::Prefer), Some(TlsMode::Disable)] {
        assert_eq!(opened(&connection, mode, Some(&ca)).await, Ok(false), "{mode:?}");
    }
}

#[tokio::test]
async fn a_useless_file_of_authorities_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    for rubbish in ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        std::fs::write(&path, rubbish).unwrap();
        let mut options = PostgresOptions::new("host=127.0.0.1");
        options.tls = TlsConfig { mode: Some(TlsMode::Require), ca_file: Some(path.clone()) };
        let refused = PostgresEngine::open(options).await.err().unwrap();
        assert!(matches!(refused, OpenError::Tls(_)), "{rubbish:?}: {refused}");
        assert!(refused.to_string().contains(&*path.to_string_lossy()), "{refused}");
    }
}
