//! Passwords: Argon2id, off the async threads, a bounded number at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use postroom_core::calls::Secret;
use postroom_core::error::StoreError;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::super::derived::off_threads;
use super::super::limits::{MAX_WAITING_PASSWORDS, VERIFIED_FOR, VERIFIED_PASSWORDS};

/// Checks and hashes passwords.
pub struct Passwords {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// Of this process: what is remembered is worth nothing elsewhere.
    key: [u8; 32],
    verified: Cache<[u8; 32], Instant>,
}

/// Counts a caller that waits, however it ends.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Passwords {
    pub fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&crate::mailbox::random());
        key[16..].copy_from_slice(&crate::mailbox::random());
        Self {
            running: Arc::new(Semaphore::new(processors)),
            waiting: Arc::default(),
            key,
            verified: Cache::new(VERIFIED_PASSWORDS),
        }
    }

    /// A PHC string with a fresh salt.
    ///
    /// # Errors
    /// `Busy` when too many passwords wait.
    pub async fn hash(&self, password: Secret) -> Result<String, StoreError> {
        self.work(move || hash(&password)).await?
    }

    /// Whether it is the password of this hash. Without a hash it takes as long, and is not: nobody
    /// learns from the time which users exist.
    ///
    /// A password that was right is remembered for a while under a keyed hash of itself and the
    /// stored one, so that a client that logs in often does not cost 20 ms each time; changing the
    /// password makes it forgotten.
    pub async fn verify(
        &self,
        password: Secret,
        stored: Option<String>,
    ) -> Result<bool, StoreError> {
        let known = stored.as_ref().map(|stored| self.known(stored, &password));
        if let Some(known) = &known
            && self.verified.get(known).is_some_and(|at| at.elapsed() < VERIFIED_FOR)
        {
            return Ok(true);
        }
        let right = self.work(move || verify(&password, stored.as_deref())).await??;
        if let (true, Some(known)) = (right, known) {
            self.verified.insert(known, Instant::now());
        }
        Ok(right)
    }

    fn known(&self, stored: &str, password: &Secret) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(stored.len() as u64).to_be_bytes());
        hasher.update(stored.as_bytes());
        hasher.update(password.0.as_bytes());
        hasher.finalize().into()
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let busy = || StoreError::Busy("too many passwords are being checked".into());
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(self.waiting.clone());
        if waiting >= MAX_WAITING_PASSWORDS {
            return Err(busy());
        }
        let permit = self.running.clone().acquire_owned().await.map_err(|_| busy())?;
        off_threads(move || {
            // Held to the end, also when the caller has gone.
            let _permit = permit;
            work()
        })
        .await
    }
}

fn hash(password: &Secret) -> Result<String, StoreError> {
    let salt = SaltString::generate(&mut OsRng);
    let hashed = Argon2::default().hash_password(password.0.as_bytes(), &salt);
    hashed
        .map(|hash| hash.to_string())
        .map_err(|error| StoreError::Invalid(format!("this password cannot be hashed: {error}")))
}

fn verify(password: &Secret, stored: Option<&str>) -> Result<bool, StoreError> {
    static NOBODY: OnceLock<String> = OnceLock::new();
    let nobody = || hash(&Secret(hex::encode(crate::mailbox::random()))).unwrap_or_default();
    let text = stored.unwrap_or_else(|| NOBODY.get_or_init(nobody));
    let parsed = PasswordHash::new(text).map_err(|_| {
        StoreError::Damaged("the stored password is no PHC string: set it anew".into())
    })?;
    let right = Argon2::default().verify_password(password.0.as_bytes(), &parsed).is_ok();
    Ok(right && stored.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_right_only_for_its_own_hash() {
        let passwords = Passwords::new();
        let secret = |text: &str| Secret(text.to_owned());
        let hash = passwords.hash(secret("hunter2")).await.unwrap();
        let check =
            async |text, hash: &str| passwords.verify(secret(text), Some(hash.to_owned())).await;
        assert_eq!(check("hunter2", &hash).await, Ok(true));
        assert_eq!(check("hunter2", &hash).await, Ok(true), "remembered");
        assert_eq!(check("hunter3", &hash).await, Ok(false));
        let other = passwords.hash(secret("hunter3")).await.unwrap();
        assert_eq!(check("hunter2", &other).await, Ok(false), "the password was changed");
        assert_eq!(passwords.verify(secret("x"), None).await, Ok(false));
        assert!(matches!(check("x", "rubbish").await, Err(StoreError::Damaged(_))));
    }
}
