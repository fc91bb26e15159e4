//! Who may use the admin API.
//!
//! With a token: whoever bears it, compared in constant time. Without one (loopback only): any
//! program of this machine, but no web page that a browser on this machine shows. A page can send
//! requests to any address; what gives it away is the `Origin` header, or, where a name of the
//! page's own has been pointed at us, a `Host` that is not ours.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::failure::Refusal;

/// Decides who may.
pub struct Guard {
    /// Of the token: the comparison of digests takes the same time whatever the guess.
    digest: Option<blake3::Hash>,
}

impl Guard {
    /// With a token or, on loopback, without.
    pub fn new(token: Option<&str>) -> Self {
        Self { digest: token.map(|token| blake3::hash(token.as_bytes())) }
    }

    fn admits(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match &self.digest {
            Some(digest) => {
                // blake3's equality is constant-time.
                let borne = bearer(headers).map(|token| blake3::hash(token.as_bytes()));
                match borne.is_some_and(|borne| borne == *digest) {
                    true => Ok(()),
                    false => {
                        let text = "bear the token: Authorization: Bearer …";
                        Err(Refusal::new(StatusCode::UNAUTHORIZED, "authentication-failed", text))
                    }
                }
            }
            None if headers.contains_key(ORIGIN) || !names_loopback(headers) => {
                let text = "not from a web page, and only by a loopback address";
                Err(Refusal::new(StatusCode::FORBIDDEN, "denied", text))
            }
            None => Ok(()),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Lets a request through or refuses it.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.admits(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => ([(WWW_AUTHENTICATE, "Bearer")], refusal).into_response(),
    }
}
