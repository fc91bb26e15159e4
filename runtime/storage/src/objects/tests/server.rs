//! An S3 server of the tests' own, within their process: buckets are folders. It can be told to be at
//! fault, for all objects or for some, and to be well again.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;

/// The bucket that is there.
pub const BUCKET: &str = "mail";
const KEY_ID: &str = "TESTKEYID";
/// Must be seen nowhere.
pub const SECRET: &str = "very-secret-indeed";

/// What is wrong with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It says 503 to each request.
    Refuses,
    /// It takes each request and never answers.
    Hangs,
    /// It hands back all but the last octet, as if that were all.
    Cuts,
    /// It says how much there is, hands back half of that and ends the connection.
    BreaksOff,
    /// It hands back another octet.
    Changes,
}

/// The server. It ends with the test's runtime.
pub struct S3Server {
    directory: tempfile::TempDir,
    address: String,
    credentials: tempfile::NamedTempFile,
    state: Arc<State>,
}

struct State {
    service: S3Service,
    fault: Mutex<Option<Fault>>,
    /// Requests so far.
    requests: watch::Sender<u64>,
}

impl S3Server {
    /// Starts one, over one empty bucket.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(directory.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let state = Arc::new(State {
            service: builder.build(),
            fault: Mutex::new(None),
            requests: watch::Sender::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(accept(listener, state.clone()));
        let credentials = tempfile::NamedTempFile::new().unwrap();
        let lines = format!("aws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n");
        std::fs::write(credentials.path(), lines).unwrap();
        Self { directory, address, credentials, state }
    }

    /// How to use it.
    pub fn config(&self) -> S3Config {
        S3Config {
            endpoint: Some(self.address.clone()),
            bucket: BUCKET.to_owned(),
            prefix: "bodies/of/one".to_owned(),
            region: "us-east-1".to_owned(),
            path_style: true,
            allow_http: true,
            ca_file: None,
            credentials_file: Some(self.credentials.path().to_owned()),
        }
    }

    /// Its bucket as an object store, which gives up early.
    pub fn objects(&self) -> Objects {
        let objects = Objects::in_s3(&self.config()).unwrap();
        Objects { time: Duration::from_secs(2), ..objects }
    }

    /// From now on this is wrong, or nothing is.
    pub fn set(&self, fault: Option<Fault>) {
        *self.state.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// How many requests there have been.
    pub fn requests(&self) -> watch::Receiver<u64> {
        self.state.requests.subscribe()
    }

    /// The files of the objects that are there.
    pub fn files(&self) -> Vec<PathBuf> {
        let folder = self.directory.path().join(BUCKET).join("bodies/of/one");
        let mut files = Vec::new();
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path().is_dir() {
                    true => folders.push(entry.path()),
                    false => files.push(entry.path()),
                }
            }
        }
        files
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((socket, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&state, request));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service);
            // That it was broken off is what some tests are about.
            let _ = connection.await;
        });
    }
}

async fn answer(
    state: &State,
    request: hyper::Request<Incoming>,
) -> Result<HttpResponse, Infallible> {
    state.requests.send_modify(|requests| *requests += 1);
    let fault = *state.fault.lock().unwrap_or_else(PoisonError::into_inner);
    let handed_back = request.method() == hyper::Method::GET;
    match fault {
        Some(Fault::Refuses) => {
            return Ok(refusal(hyper::StatusCode::SERVICE_UNAVAILABLE, "SlowDown"));
        }
        Some(Fault::Hangs) => std::future::pending().await,
        Some(Fault::Cuts | Fault::BreaksOff | Fault::Changes) | None => {}
    }
    // The folders make a bucket of whatever is put anywhere.
    if !request.uri().path().starts_with(&format!("/{BUCKET}/")) {
        return Ok(refusal(hyper::StatusCode::NOT_FOUND, "NoSuchBucket"));
    }
    let answer = state.service.call(request.map(Body::from)).await;
    let answer = answer.unwrap_or_else(|error| panic!("the S3 server: {error:?}"));
    Ok(match fault {
        Some(fault) if handed_back => spoiled(answer, fault).await,
        Some(_) | None => answer,
    })
}

fn refusal(status: hyper::StatusCode, code: &str) -> HttpResponse {
    let mut refusal = HttpResponse::new(Body::from(format!("<Error><Code>{code}</Code></Error>")));
    *refusal.status_mut() = status;
    refusal
}

async fn spoiled(answer: HttpResponse, fault: Fault) -> HttpResponse {
    let (mut head, body) = answer.into_parts();
    let mut octets =
        body.collect().await.expect("it is in memory or in a file").to_bytes().to_vec();
    let whole = octets.len();
    match fault {
        Fault::Cuts => drop(octets.pop()),
        Fault::Changes => octets.first_mut().into_iter().for_each(|octet| *octet ^= 1),
        Fault::BreaksOff => octets.truncate(whole / 2),
        Fault::Refuses | Fault::Hangs => unreachable!("nothing is handed back then"),
    }
    let octets = Bytes::from(octets);
    if fault == Fault::BreaksOff {
        let first = futures::stream::iter([Ok(octets), Err("broken off")]);
        let body = http_body_util::StreamBody::new(futures::StreamExt::map(first, |piece| {
            piece.map(hyper::body::Frame::data)
        }));
        return HttpResponse::from_parts(head, Body::http_body_unsync(body));
    }
    head.headers.insert(hyper::header::CONTENT_LENGTH, octets.len().into());
    HttpResponse::from_parts(head, Body::http_body_unsync(Full::new(octets)))
}
