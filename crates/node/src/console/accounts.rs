//! Access to the console: accounts with passwords, API tokens, sessions, and the cluster's own key.
//!
//! A session is a signed cookie, so that each node knows it without asking another one and none is lost with a node.
//! A change of an account ends its sessions. `trivet` on a node, which has the cluster's key, signs each request with it.

use crate::keys::Keys;
use argon2::Argon2;
use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::sync::Semaphore;

/// A session ends after this.
const SESSION_MS: i64 = 12 * 3_600_000;
/// A signed request counts for this long, and before its time as long: the clocks may differ.
const SIGNED_MS: i64 = 60_000;
/// A link that signs in counts for this long.
const LINK_MS: i64 = 600_000;
/// Failures after which an account is locked for the failing address, even with the right password.
const FAILURES_MAX: u32 = 5;
const LOCKED_MS: i64 = 60_000;
/// Failing accounts and addresses that are remembered; the oldest is forgotten beyond it.
const FAILING_MAX: usize = 10_000;
/// Passwords that are checked at a time; further ones wait. A check takes 19 MiB and some hundredths of a second.
const TRIALS_MAX: usize = 2;
/// Accounts and tokens of a cluster; a further one is refused.
const ACCOUNTS_MAX: usize = 200;
/// Characters that a password has at least; a shorter one is refused.
pub const PASSWORD_CHARS_MIN: usize = 10;
/// Bytes of a password; a longer one is refused.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// The rights of a user. Each role has those of the roles before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads everything that the console shows.
    Viewer,
    /// Also acknowledges alerts, sets silences and maintenance, and gives orders about data.
    Operator,
    /// Also manages accounts and settings.
    Administrator,
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(s: &str) -> Result<Role, String> {
        match s {
            "viewer" => Ok(Role::Viewer),
            "operator" => Ok(Role::Operator),
            "administrator" => Ok(Role::Administrator),
            _ => Err(format!("{s} is no role; there are viewer, operator and administrator")),
        }
    }
}

impl Role {
    /// The name in the API, on the command line and in the accounts' file.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Administrator => "administrator",
        }
    }
}

/// A user with a password, or an API token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// The rights.
    pub role: Role,
    /// Salt and Argon2id hash of a password; SHA-256 hash of a token.
    hash: String,
    /// Whether it is a token of a program, and not a person's account.
    pub token: bool,
    /// Time of the last change, in milliseconds since 1970. The newest change wins when nodes exchange their tables.
    pub changed_ms: i64,
    /// Kept for a while so that the other nodes hear of it.
    pub removed: bool,
}

/// The user behind a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The account's name, or [`KEY_HOLDER`].
    pub name: String,
    /// The rights.
    pub role: Role,
    /// By a session; a request that is signed, or from this machine, is no session.
    pub signed_in: bool,
}

/// All accounts and tokens by their names, as nodes exchange them.
pub type Table = BTreeMap<String, Account>;

#[derive(Default)]
struct Inner {
    accounts: Table,
    failing: BTreeMap<String, (u32, i64)>,
    /// Links that were used.
    used: BTreeMap<String, i64>,
}

/// The accounts of a cluster, as this node knows them, with their file.
pub struct Accounts {
    keys: Keys,
    path: PathBuf,
    trials: Semaphore,
    inner: Mutex<Inner>,
}

type HmacSha256 = Hmac<Sha256>;

fn b64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// A code over some parts with the cluster's key; no part can run into the next.
pub fn sign(key: &[u8], parts: &[&str]) -> String {
    let mut mac = HmacSha256::new_from_slice(key).expect("any length will do");
    mac.update(b"trivet console 1");
    for p in parts {
        mac.update(&(p.len() as u64).to_be_bytes());
        mac.update(p.as_bytes());
    }
    b64(&mac.finalize().into_bytes())
}

/// Takes as long for a wrong code as for a right one.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

/// The header by which a program with the key asks: `Authorization: Trivet TIME.CODE`.
pub fn signed_header(key: &[u8], now_ms: i64, method: &str, path: &str) -> String {
    let time = now_ms.to_string();
    format!("Trivet {time}.{}", sign(key, &["request", &time, method, path]))
}

/// The query of a link that signs in once.
pub fn link_code(key: &[u8], now_ms: i64) -> String {
    let nonce = b64(&crate::rpc::random::<12>());
    let time = now_ms.to_string();
    format!("{time}.{nonce}.{}", sign(key, &["link", &time, &nonce]))
}

impl Accounts {
    /// # Errors
    /// The file is there and cannot be read: without it nobody must get in as if it were not.
    pub fn open(keys: Keys, path: PathBuf) -> anyhow::Result<Accounts> {
        let accounts = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Table::new(),
            Err(e) => anyhow::bail!("{}: {e}", path.display()),
        };
        let inner = Mutex::new(Inner { accounts, ..Default::default() });
        Ok(Accounts { keys, path, trials: Semaphore::new(TRIALS_MAX), inner })
    }

    /// Whether somebody with an accepted key made this code over these parts.
    fn is_signed(&self, code: &str, parts: &[&str]) -> bool {
        self.keys.any(|key| same(code, &sign(key, parts)))
    }

    fn inner(&self) -> parking_lot::MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Every account, for the other nodes; the hashes with it.
    pub fn table(&self) -> Table {
        self.inner().accounts.clone()
    }
    /// Takes over what other nodes know later than this one.
    pub fn merge(&self, other: &Table) {
        let mut inner = self.inner();
        let mut changed = false;
        for (name, a) in other {
            let newer = inner.accounts.get(name).is_none_or(|own| own.changed_ms < a.changed_ms);
            if newer && (inner.accounts.len() < ACCOUNTS_MAX || inner.accounts.contains_key(name)) {
                inner.accounts.insert(name.clone(), a.clone());
                changed = true;
            }
        }
        if changed {
            if let Err(e) = self.write(&inner.accounts) {
                tracing::warn!(error = %e, "the console's accounts could not be written");
            }
        }
    }

    fn write(&self, accounts: &Table) -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let text = serde_json::to_vec(accounts).map_err(std::io::Error::other)?;
        trivet_disk::write_atomically(&self.path, &text)?;
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o600))
    }

    fn put(&self, name: &str, account: Account) -> anyhow::Result<()> {
        let fits = |c: char| c.is_alphanumeric() || "-_.@".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            anyhow::bail!("a name has 1 to 64 letters, digits and -_.@");
        }
        let mut inner = self.inner();
        if inner.accounts.len() >= ACCOUNTS_MAX && !inner.accounts.contains_key(name) {
            anyhow::bail!("there are {ACCOUNTS_MAX} accounts already: remove one first");
        }
        inner.accounts.insert(name.into(), account);
        Ok(self.write(&inner.accounts)?)
    }

    /// Makes an account, or changes its password and role; its sessions end. Takes some hundredths of a second.
    ///
    /// # Errors
    /// Name or password will not do, or the file cannot be written.
    pub fn set_password(&self, now_ms: i64, name: &str, password: &str, role: Role) -> anyhow::Result<()> {
        if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
            anyhow::bail!("a password has at least {PASSWORD_CHARS_MIN} characters");
        }
        let hash = hash_password(password, &crate::rpc::random::<16>());
        self.put(name, Account { role, hash, token: false, changed_ms: now_ms, removed: false })
    }

    /// Makes a token and gives it out, once.
    ///
    /// # Errors
    /// As of [`Accounts::set_password`].
    pub fn add_token(&self, now_ms: i64, name: &str, role: Role) -> anyhow::Result<String> {
        let secret = b64(&crate::rpc::random::<32>());
        let hash = sign(b"token", &[&secret]);
        self.put(name, Account { role, hash, token: true, changed_ms: now_ms, removed: false })?;
        Ok(format!("{name}:{secret}"))
    }

    /// # Errors
    /// There is no such account, or the file cannot be written.
    pub fn remove(&self, now_ms: i64, name: &str) -> anyhow::Result<()> {
        let mut inner = self.inner();
        let Some(a) = inner.accounts.get_mut(name).filter(|a| !a.removed) else {
            anyhow::bail!("there is no account {name}");
        };
        (a.removed, a.changed_ms, a.hash) = (true, now_ms, String::new());
        Ok(self.write(&inner.accounts)?)
    }

    /// Name, role and whether it is a token.
    pub fn list(&self) -> Vec<(String, Role, bool)> {
        let inner = self.inner();
        inner.accounts.iter().filter(|(_, a)| !a.removed).map(|(n, a)| (n.clone(), a.role, a.token)).collect()
    }

    /// Checks a password and creates a session. `None`: the password is wrong, or there were too many failures.
    pub async fn sign_in(&self, now_ms: i64, name: &str, password: &str, from: &str) -> Option<String> {
        let keys = [format!("{name}\u{0}{from}"), format!("\u{0}{from}")];
        let locked = |f: Option<&(u32, i64)>, max: u32| f.is_some_and(|(n, at)| *n >= max && now_ms - at < LOCKED_MS);
        {
            let inner = self.inner();
            // The limit per address is higher, because several people may share one.
            if locked(inner.failing.get(&keys[0]), FAILURES_MAX)
                || locked(inner.failing.get(&keys[1]), 4 * FAILURES_MAX)
            {
                return None;
            }
        }
        let _trial = self.trials.acquire().await.ok()?;
        let account = self.inner().accounts.get(name).filter(|a| !a.removed && !a.token).cloned();
        // A name that does not exist takes as long as one that does.
        let hash = account.map_or_else(|| hash_password("", &[0; 16]), |a| a.hash);
        let password = password.to_string();
        let right = tokio::task::spawn_blocking(move || check_password(&password, &hash)).await.unwrap_or(false);
        let right = right && self.inner().accounts.get(name).is_some_and(|a| !a.removed && !a.token);
        let mut inner = self.inner();
        if right {
            inner.failing.remove(&keys[0]);
            return Some(self.session(now_ms, name));
        }
        for key in keys {
            let f = inner.failing.entry(key).or_insert((0, now_ms));
            *f = if now_ms - f.1 >= LOCKED_MS { (1, now_ms) } else { (f.0 + 1, now_ms) };
        }
        while inner.failing.len() > FAILING_MAX {
            let oldest = inner.failing.iter().min_by_key(|(_, f)| f.1).map(|(k, _)| k.clone());
            oldest.and_then(|k| inner.failing.remove(&k));
        }
        None
    }

    fn session(&self, now_ms: i64, name: &str) -> String {
        let time = now_ms.to_string();
        format!("{}.{time}.{}", b64(name.as_bytes()), sign(self.keys.in_use(), &["session", name, &time]))
    }

    /// Uses a link that signs in, once, as administrator.
    pub fn use_link(&self, now_ms: i64, code: &str) -> Option<String> {
        let mut parts = code.split('.');
        let (time, nonce, mac) = (parts.next()?, parts.next()?, parts.next()?);
        let at: i64 = time.parse().ok()?;
        if !self.is_signed(mac, &["link", time, nonce]) || !(0..LINK_MS).contains(&(now_ms - at)) {
            return None;
        }
        let mut inner = self.inner();
        inner.used.retain(|_, used| now_ms - *used < LINK_MS);
        if inner.used.insert(nonce.into(), now_ms).is_some() {
            return None;
        }
        drop(inner);
        Some(self.session(now_ms, KEY_HOLDER))
    }

    /// Whose session that is.
    pub fn of_session(&self, now_ms: i64, cookie: &str) -> Option<User> {
        let mut parts = cookie.split('.');
        let (name, time, mac) = (parts.next()?, parts.next()?, parts.next()?);
        let name = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(name).ok()?;
        let name = String::from_utf8(name).ok()?;
        let at: i64 = time.parse().ok()?;
        if !self.is_signed(mac, &["session", &name, time]) || !(-SIGNED_MS..SESSION_MS).contains(&(now_ms - at)) {
            return None;
        }
        if name == KEY_HOLDER {
            return Some(User { name, role: Role::Administrator, signed_in: true });
        }
        let inner = self.inner();
        let a = inner.accounts.get(&name).filter(|a| !a.removed && !a.token && a.changed_ms <= at)?;
        Some(User { role: a.role, name, signed_in: true })
    }

    /// The account that sends that `Authorization` header with that request.
    pub fn of_header(&self, now_ms: i64, header: &str, method: &str, path: &str) -> Option<User> {
        if let Some(signed) = header.strip_prefix("Trivet ") {
            let (time, mac) = signed.split_once('.')?;
            let at: i64 = time.parse().ok()?;
            let right = self.is_signed(mac, &["request", time, method, path]);
            let user = User { name: KEY_HOLDER.into(), role: Role::Administrator, signed_in: false };
            return (right && (now_ms - at).abs() <= SIGNED_MS).then_some(user);
        }
        let (name, secret) = header.strip_prefix("Bearer ")?.split_once(':')?;
        let inner = self.inner();
        let a = inner.accounts.get(name).filter(|a| a.token && !a.removed)?;
        same(&a.hash, &sign(b"token", &[secret])).then(|| User { name: name.into(), role: a.role, signed_in: false })
    }

    /// The code that proves that a form came from a page of this console.
    pub fn form_code(&self, cookie: &str) -> String {
        sign(self.keys.in_use(), &["form", cookie])
    }
    /// Whether `code` is the [`form_code`](Self::form_code) of this session's cookie.
    pub fn is_form_code(&self, cookie: &str, code: &str) -> bool {
        self.is_signed(code, &["form", cookie])
    }
}

/// User name of a holder of the cluster's key. No account can have it.
pub const KEY_HOLDER: &str = "(cluster key)";

fn hash_password(password: &str, salt: &[u8; 16]) -> String {
    let mut out = [0; 32];
    Argon2::default()
        .hash_password_into(password.as_bytes(), salt, &mut out)
        .expect("salt and length are those that it takes");
    format!("argon2id.{}.{}", b64(salt), b64(&out))
}

fn check_password(password: &str, hash: &str) -> bool {
    let salt = hash.split('.').nth(1).and_then(|s| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(s).ok());
    let Some(salt) = salt.and_then(|s| <[u8; 16]>::try_from(s).ok()) else { return false };
    password.len() <= PASSWORD_BYTES_MAX && same(hash, &hash_password(password, &salt))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(dir: &std::path::Path) -> Accounts {
        Accounts::open(Keys::of(&[7; 32]), dir.join("accounts.json")).unwrap()
    }

    #[tokio::test]
    async fn a_password_gives_a_session_that_ends_with_the_account() {
        let dir = tempfile::tempdir().unwrap();
        let a = accounts(dir.path());
        assert!(a.set_password(1, "ann", "short", Role::Operator).is_err());
        assert!(a.set_password(1, "(x)", "long enough 1", Role::Operator).is_err());
        a.set_password(1, "ann", "long enough 1", Role::Operator).unwrap();
        assert!(a.sign_in(2, "ann", "long enough 2", "10.0.0.9").await.is_none());
        let cookie = a.sign_in(2, "ann", "long enough 1", "10.0.0.9").await.unwrap();
        assert_eq!(a.of_session(3, &cookie).unwrap().role, Role::Operator);
        assert!(a.of_session(3 + SESSION_MS, &cookie).is_none());
        let forged = cookie.replace(&b64(b"ann"), &b64(KEY_HOLDER.as_bytes()));
        assert!(a.of_session(3, &forged).is_none());
        // Another start of the node, and another node, know it.
        assert!(accounts(dir.path()).of_session(3, &cookie).is_some());
        a.set_password(10, "ann", "long enough 3", Role::Viewer).unwrap();
        assert!(a.of_session(11, &cookie).is_none(), "a session outlived its password");
        a.remove(12, "ann").unwrap();
        assert!(a.sign_in(13, "ann", "long enough 3", "10.0.0.9").await.is_none());
        assert!(a.is_form_code(&cookie, &a.form_code(&cookie)) && !a.is_form_code("other", &a.form_code(&cookie)));
    }

    #[tokio::test]
    async fn failures_lock_the_address_out_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let a = accounts(dir.path());
        a.set_password(1, "ann", "long enough 1", Role::Viewer).unwrap();
        for _ in 0..FAILURES_MAX {
            assert!(a.sign_in(2, "ann", "wrong", "10.0.0.66").await.is_none());
        }
        assert!(a.sign_in(3, "ann", "long enough 1", "10.0.0.66").await.is_none());
        assert!(a.sign_in(3, "ann", "long enough 1", "10.0.0.9").await.is_some());
        assert!(a.sign_in(3 + LOCKED_MS, "ann", "long enough 1", "10.0.0.66").await.is_some());
    }

    #[test]
    fn a_link_works_once_and_a_signed_request_for_its_path_only() {
        let dir = tempfile::tempdir().unwrap();
        let a = accounts(dir.path());
        let code = link_code(&[7; 32], 1_000);
        let cookie = a.use_link(2_000, &code).unwrap();
        assert_eq!(a.of_session(3_000, &cookie).unwrap().role, Role::Administrator);
        assert!(a.use_link(2_000, &code).is_none(), "twice");
        assert!(a.use_link(1_000 + LINK_MS, &link_code(&[7; 32], 1_000)).is_none(), "late");
        assert!(a.use_link(2_000, &link_code(&[8; 32], 1_000)).is_none(), "another key");
        let header = signed_header(&[7; 32], 5_000, "GET", "/status.json");
        assert!(a.of_header(6_000, &header, "GET", "/status.json").is_some());
        assert!(a.of_header(6_000, &header, "POST", "/status.json").is_none());
        assert!(a.of_header(6_000, &header, "GET", "/alerts").is_none());
        assert!(a.of_header(5_000 + 2 * SIGNED_MS, &header, "GET", "/status.json").is_none());
        let token = a.add_token(1, "prometheus", Role::Viewer).unwrap();
        assert_eq!(a.of_header(1, &format!("Bearer {token}"), "GET", "/metrics").unwrap().role, Role::Viewer);
        assert!(a.of_header(1, "Bearer prometheus:x", "GET", "/metrics").is_none());
        a.remove(2, "prometheus").unwrap();
        assert!(a.of_header(3, &format!("Bearer {token}"), "GET", "/metrics").is_none());
    }

    #[test]
    fn a_later_change_wins_whichever_way_it_comes() {
        let (d, e) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (accounts(d.path()), accounts(e.path()));
        a.set_password(1, "ann", "long enough 1", Role::Viewer).unwrap();
        b.merge(&a.table());
        assert_eq!(b.list().len(), 1);
        b.remove(5, "ann").unwrap();
        b.merge(&a.table());
        assert_eq!(b.list().len(), 0);
        a.merge(&b.table());
        assert_eq!(a.list().len(), 0);
    }
}
