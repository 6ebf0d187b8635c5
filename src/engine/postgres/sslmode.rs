//! Encrypted connections with libpq's meanings of `sslmode`.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::client::VerifierBuilderError;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::system::tls::{self, Verification};

/// What `sslmode` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Never encrypt.
    Disable,
    /// Encrypt where the server can, verify nothing: libpq's default.
    Prefer,
    /// Encrypt; verify the chain if there is a root certificate.
    Require,
    /// Encrypt and verify the chain.
    VerifyCa,
    /// Encrypt, verify the chain and the host's name.
    VerifyFull,
}

impl Mode {
    /// From the connection's `sslmode`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            // `allow` would try without encryption first: nobody wants that today.
            "prefer" | "allow" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            other => {
                return Err(Error::new(ErrorKind::Config, format!("sslmode {other:?} is not known"))
                    .remedy("Use one of disable, prefer, require, verify-ca, verify-full."));
            }
        })
    }

    /// As the environment of a client tool takes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Files of a client certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// The certificate and what signed it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The connector for this mode; `None` where nothing is to be encrypted.
pub(super) fn connector(
    mode: Mode,
    root: Option<&PathBuf>,
    client: Option<&ClientCertificate>,
) -> Result<Option<MakeRustlsConnect>> {
    let verification = match (mode, root) {
        (Mode::Disable, _) => return Ok(None),
        (Mode::Prefer, _) | (Mode::Require, None) => Verification::Nothing,
        (Mode::VerifyFull, None) => Verification::ChainAndName(system_authorities()?),
        (Mode::VerifyCa, None) => {
            return Err(Error::new(ErrorKind::Config, "sslmode verify-ca has no root certificate")
                .remedy("Add sslrootcert=FILE, or use sslmode=verify-full."));
        }
        (Mode::Require | Mode::VerifyCa, Some(path)) => Verification::Chain(authorities(path)?),
        (Mode::VerifyFull, Some(path)) => Verification::ChainAndName(authorities(path)?),
    };
    let config = match client {
        None => tls::config(verification)?,
        Some(client) => tls::config_with_client(verification, &client.certificate, &client.key)?,
    };
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// The authorities of the system, at least one.
fn system_authorities() -> Result<RootCertStore> {
    let (roots, errors) = tls::system_authorities();
    if roots.is_empty() {
        return Err(Error::new(ErrorKind::Config, "the system has no root certificates")
            .cause(errors.first().map(ToString::to_string).unwrap_or_default())
            .remedy("Install ca-certificates, or add sslrootcert=FILE."));
    }
    Ok(roots)
}

/// The authorities in a file, at least one.
fn authorities(path: &Path) -> Result<RootCertStore> {
    let reading = || format!("read sslrootcert {}", path.display());
    let certificates = tls::read(path).or_kind(ErrorKind::Config, reading())?;
    let roots = tls::authorities(certificates).or_kind(ErrorKind::Config, reading())?;
    if roots.is_empty() {
        return Err(VerifierBuilderError::NoRootAnchors).or_kind(ErrorKind::Config, reading());
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_need_what_they_verify_with() {
        assert!(Mode::parse("verify_full").is_err());
        assert!(connector(Mode::Disable, None, None).unwrap().is_none());
        assert!(connector(Mode::Prefer, None, None).unwrap().is_some());
        assert!(connector(Mode::Require, None, None).unwrap().is_some());
        assert!(connector(Mode::VerifyCa, None, None).is_err());
        let missing = PathBuf::from("/nonexistent/root.crt");
        let error = connector(Mode::VerifyFull, Some(&missing), None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        let empty = tempfile::NamedTempFile::new().unwrap();
        for mode in [Mode::Require, Mode::VerifyCa, Mode::VerifyFull] {
            let error = connector(mode, Some(&empty.path().to_owned()), None).err().unwrap();
            assert!(error.cause_text().unwrap().contains("root"), "{error}");
        }
    }
}
