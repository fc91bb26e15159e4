//! The front against a session and a message store that do what the test says.

mod admin;
mod driver;
mod fake;
mod hooks;
mod listener;
mod lmtp;
mod tls;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long anything may take before a test gives up: generous, the machine may be starved.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that must happen.
async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, happens).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen within {PATIENCE:?}: {what}"),
    }
}

async fn send(client: &mut (impl AsyncWrite + Unpin), text: &str) {
    soon("the node takes octets", client.write_all(text.as_bytes())).await.expect("open");
}

/// Reads exactly this.
#[track_caller]
fn hear<'a>(
    client: &'a mut (impl AsyncRead + Unpin),
    expected: &'a str,
) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let mut heard = vec![0; expected.len()];
        let what = format!("{expected:?} is heard at {caller}");
        soon(&what, client.read_exact(&mut heard)).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(String::from_utf8_lossy(&heard), expected, "at {caller}");
    }
}

/// Reads to the end.
async fn hear_rest(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut heard = Vec::new();
    soon("the node closes", client.read_to_end(&mut heard)).await.expect("a clean end");
    String::from_utf8_lossy(&heard).into_owned()
}
