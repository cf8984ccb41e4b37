//! `[vcenter]` of `node.toml`.

use super::http::Target;
use super::tls::{Thumbprint, Trust};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use trivet_vcenter::config::{Config, Mode, Wanted};
use trivet_vcenter::routes::{self, HostNode};

/// Bytes of a password file; a longer one is refused.
const PASSWORD_BYTES_MAX: u64 = 1_024;

/// `[vcenter]` of `node.toml`. docs/vcenter.md explains each setting.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `https://HOST[:PORT]` of a vCenter, or of a single ESXi host.
    pub url: String,
    /// User of vCenter, as `NAME@DOMAIN`.
    pub user: String,
    /// A file with the password, readable by its owner only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Name of a systemd credential with the password (`LoadCredential=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_credential: Option<String>,
    /// SHA-256 of vCenter's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbprint: Option<String>,
    /// PEM file of the CA that signed vCenter's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Name of the cluster; needed where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Whether the agent only observes, proposes steps, or takes them.
    #[serde(default)]
    pub mode: Mode,
    /// Learn wanted datastores from a strict majority of the hosts.
    #[serde(default = "yes")]
    pub learn: bool,
    /// Seconds between two readings.
    #[serde(default = "fifteen")]
    pub poll_seconds: u64,
    /// Seconds that a fault lasts before its alert is raised.
    #[serde(default = "thirty")]
    pub alert_after_seconds: u64,
    /// Seconds that a fault lasts before the first step.
    #[serde(default = "sixty")]
    pub repair_after_seconds: u64,
    /// Seconds after a failover of the storage during which no step is taken.
    #[serde(default = "sixty")]
    pub failover_hold_seconds: u64,
    /// Steps in an hour, on all hosts together.
    #[serde(default = "four")]
    pub repairs_per_hour: u32,
    /// Rung 3 of the ladder is allowed: `ReconfigureHostForDAS_Task`.
    #[serde(default)]
    pub allow_ha_reconfigure: bool,
    /// Rung 4 of the ladder is allowed: disconnect and reconnect the host.
    #[serde(default)]
    pub allow_host_reconnect: bool,
    /// Datastores that are wanted on every host, beside those that are learned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datastores: Vec<Wanted>,
    /// Local address mode: each host, its own node, and where other hosts reach that node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<HostNode>,
    /// When the file was last changed: what a person removed before that is settled.
    #[serde(skip)]
    pub declared_wall_ms: i64,
}

fn yes() -> bool {
    true
}
fn four() -> u32 {
    4
}
fn fifteen() -> u64 {
    15
}
fn thirty() -> u64 {
    30
}
fn sixty() -> u64 {
    60
}

/// Bounds of `poll_seconds`: vCenter is not to be kept busy, and a fault is to be seen within a minute.
const POLL_SECONDS: std::ops::RangeInclusive<u64> = 1..=60;

impl Settings {
    /// # Errors
    /// A setting is wrong: said before the node starts.
    pub fn check(&self) -> anyhow::Result<()> {
        self.target()?;
        self.trust()?;
        anyhow::ensure!(!self.user.is_empty(), "vcenter: user is empty");
        anyhow::ensure!(
            self.password_file.is_some() != self.password_credential.is_some(),
            "vcenter: set one of password_file and password_credential"
        );
        anyhow::ensure!(
            POLL_SECONDS.contains(&self.poll_seconds),
            "vcenter: poll_seconds = {} is outside 1 to 60",
            self.poll_seconds
        );
        Ok(self.config().check()?)
    }

    /// The vCenter that `url` names.
    ///
    /// # Errors
    /// `url` is no https URL.
    pub fn target(&self) -> anyhow::Result<Target> {
        self.url.parse::<Target>().map_err(|e| anyhow::anyhow!("vcenter: {e}"))
    }

    /// The certificates to trust, by `thumbprint` or `ca`; without both, the system's CAs.
    ///
    /// # Errors
    /// Both are set, or the thumbprint is not one.
    pub fn trust(&self) -> anyhow::Result<Trust> {
        match (&self.thumbprint, &self.ca) {
            (Some(_), Some(_)) => anyhow::bail!("vcenter: set thumbprint or ca, not both"),
            (Some(t), None) => Ok(Trust::Pinned(t.parse::<Thumbprint>().map_err(|e| anyhow::anyhow!("vcenter: {e}"))?)),
            (None, Some(ca)) => Ok(Trust::Ca(ca.clone())),
            (None, None) => Ok(Trust::System),
        }
    }

    /// The core's configuration.
    pub fn config(&self) -> Config {
        Config {
            mode: self.mode,
            user: self.user.clone(),
            wanted: self.datastores.clone(),
            declared_wall_ms: self.declared_wall_ms,
            learn: self.learn,
            alert_after_ms: self.alert_after_seconds.saturating_mul(1_000),
            repair_after_ms: self.repair_after_seconds.saturating_mul(1_000),
            failover_hold_ms: self.failover_hold_seconds.saturating_mul(1_000),
            repairs_per_hour: self.repairs_per_hour,
            can_reset_clients: false,
            allow_ha_reconfigure: self.allow_ha_reconfigure,
            allow_host_reconnect: self.allow_host_reconnect,
        }
    }

    /// # Errors
    /// There is no password, or others may read it.
    pub fn password(&self) -> anyhow::Result<String> {
        let path = match (&self.password_file, &self.password_credential) {
            (Some(file), _) => file.clone(),
            (None, Some(name)) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    anyhow::anyhow!(
                        "vcenter: systemd handed over no credentials; add LoadCredential={name}:FILE to the unit"
                    )
                })?;
                anyhow::ensure!(!name.contains('/'), "vcenter: password_credential is a name, not a path");
                Path::new(&folder).join(name)
            }
            (None, None) => anyhow::bail!("vcenter: set password_file or password_credential"),
        };
        let shown = path.display();
        let meta = std::fs::metadata(&path).map_err(|e| anyhow::anyhow!("vcenter: password in {shown}: {e}"))?;
        let mode = meta.permissions().mode() & 0o777;
        anyhow::ensure!(
            mode & 0o077 == 0,
            "vcenter: {shown} has mode {mode:o}; others could read the password: chmod 600 {shown}"
        );
        anyhow::ensure!(meta.len() <= PASSWORD_BYTES_MAX, "vcenter: {shown} is too long for a password");
        let text = std::fs::read_to_string(&path).map_err(|e| anyhow::anyhow!("vcenter: password in {shown}: {e}"))?;
        let password = text.trim_end_matches(['\r', '\n']);
        anyhow::ensure!(!password.is_empty(), "vcenter: {shown} is empty");
        Ok(password.to_string())
    }

    /// The password, and a digest that names user and password without telling them.
    ///
    /// # Errors
    /// As for [`Settings::password`].
    pub(super) fn login(&self, key: &[u8]) -> anyhow::Result<(String, String)> {
        let password = self.password()?;
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key)?;
        for part in [self.url.as_str(), self.user.as_str(), password.as_str()] {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        let digest = mac.finalize().into_bytes();
        let digest = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
        Ok((password, digest))
    }

    /// The configuration of the hosts' routes to the nodes' local address; none where no host is declared.
    ///
    /// # Errors
    /// Hosts are declared and there is no local address, or they contradict each other.
    pub fn routes(&self, local: Option<IpAddr>) -> anyhow::Result<Option<routes::Config>> {
        if self.routes.is_empty() {
            return Ok(None);
        }
        let Some(address) = local else {
            anyhow::bail!(
                "vcenter: routes lead to the nodes' local address, and there is none; set local_address in [gateway]"
            )
        };
        let config = routes::Config { address, hosts: self.routes.clone(), mode: self.mode };
        config.check()?;
        Ok(Some(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(more: &str) -> Settings {
        let text = format!("url = \"https://vc\"\nuser = \"agent\"\npassword_file = \"p\"\n{more}");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn the_default_only_watches_and_wrong_settings_are_told() {
        let s = settings("");
        s.check().unwrap();
        assert_eq!((s.mode, s.allow_ha_reconfigure, s.allow_host_reconnect), (Mode::Watch, false, false));
        let error = |more: &str| settings(more).check().unwrap_err().to_string();
        assert!(error("thumbprint = \"AA:BB\"").contains("64 hexadecimal digits"));
        assert!(error("poll_seconds = 0").contains("outside 1 to 60"));
        assert!(error("password_credential = \"x\"").contains("one of password_file"));
        assert!(error("failover_hold_seconds = 3").contains("failover_hold_ms = 3000"));
        assert!(error("datastores = [{ name = \"a\", server = \"s\", path = \"/a/\" }]").contains("\"/a\" is meant"));
        assert!(toml::from_str::<Settings>("url = \"x\"\nuser = \"u\"\npassword = \"secret\"").is_err());
    }

    #[test]
    fn a_password_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let s = Settings { password_file: Some(path.clone()), ..settings("") };
        assert!(s.password().unwrap_err().to_string().contains("No such file"));
        std::fs::write(&path, "geheim\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = s.password().unwrap_err().to_string();
        assert!(error.contains("chmod 600") && !error.contains("geheim"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(s.password().unwrap(), "geheim");
    }
}
