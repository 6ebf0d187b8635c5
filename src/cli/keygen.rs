//! `marbre keygen`

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::compose::targets;
use super::context::Context;
use super::{output, signals};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::keys::{Signer, keygen};
use crate::repository::catalog;

/// Arguments of `keygen`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Args {
    /// Publisher: make the restore key, the signing key and `allowed_signers` in this folder
    #[arg(group = "what", value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Provider: make the agent's signing key in this file
    #[arg(long, group = "what", value_name = "FILE")]
    agent: Option<PathBuf>,

    /// Protect the restore key with a passphrase
    #[arg(long, requires = "folder")]
    passphrase: bool,

    /// Trust the agent with this public key file from the start; may be given several times
    #[arg(long, requires = "folder", value_name = "PUB")]
    signer: Vec<PathBuf>,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<()> {
    match (&args.agent, &args.folder) {
        (Some(path), _) => agent(path, context).await,
        (None, Some(folder)) => publisher(args, folder, context),
        (None, None) => Err(Error::new(ErrorKind::Usage, "keygen needs a folder, or --agent FILE")),
    }
}

/// What `keygen --agent --json` prints.
#[derive(Serialize)]
pub(super) struct AgentKeys {
    /// The file of the key.
    signing_key: PathBuf,
    /// Its fingerprint.
    signer: String,
    /// The line for the publisher's `allowed_signers`.
    allowed_signers: String,
    /// Databases whose chain of snapshots another key began, as far as their targets could be asked.
    chains: Vec<String>,
}

/// What `keygen --json` prints.
#[derive(Serialize)]
pub(super) struct PublisherKeys {
    /// The file of the restore key.
    restore_key: PathBuf,
    /// The recipient, for the provider.
    recipient: String,
    /// Fingerprint of the publisher's signing key.
    publisher_signer: String,
    /// What people should know.
    warnings: Vec<String>,
}

async fn agent(path: &Path, context: &Context) -> Result<()> {
    let signer = keygen::agent(path, "marbre agent")?;
    let line = keygen::agent_line(&signer, "marbre agent")?;
    let chains = chains(path, context).await;
    if context.json {
        return output::json(&AgentKeys {
            signing_key: path.to_owned(),
            signer: signer.fingerprint(),
            allowed_signers: line.trim_end().to_owned(),
            chains: chains.unwrap_or_default(),
        });
    }
    output::print(&format!("agent's signing key: {}", path.display()));
    output::print(&format!("fingerprint: {}", signer.fingerprint()));
    match chains {
        Some(chains) if chains.is_empty() => {}
        Some(chains) => {
            output::print(&format!(
                "The targets hold snapshots of {} already, by another key.",
                chains.join(", ")
            ));
            output::print(GO_ON);
        }
        None => {
            output::print("If the targets hold snapshots by another key already:");
            output::print(GO_ON);
        }
    }
    // At the end, where scripts take it from.
    output::print(
        "Give each publisher this line for their allowed_signers, and the fingerprint on the phone:",
    );
    output::print(line.trim_end());
    Ok(())
}

const GO_ON: &str = "To go on with them, run `marbre rotate --all --old-key FILE` where the old key is at hand, or \
                     `marbre adopt DB` where it is lost.";

/// The databases of the configuration that have snapshots at some target, where it names this key. `None`, where there is no
/// such configuration, or nobody could look.
async fn chains(key: &Path, context: &Context) -> Option<Vec<String>> {
    let config = context.config().ok()?;
    if std::path::absolute(&config.signing_key).ok()? != std::path::absolute(key).ok()? {
        return None;
    }
    let cancel = signals::cancellation().ok()?;
    let mut found = Vec::new();
    for database in &config.databases {
        let targets = targets::targets(&config, database).await.ok()?;
        match catalog::any_signer(&targets, &database.id, &cancel).await {
            Ok(None) => {}
            Ok(Some(_)) => found.push(database.id.database.to_string()),
            Err(_) => return None,
        }
    }
    Some(found)
}

fn publisher(args: &Args, folder: &std::path::Path, context: &Context) -> Result<()> {
    let passphrase = if args.passphrase { Some(new_passphrase()?) } else { None };
    let agents = args
        .signer
        .iter()
        .map(|path| Ok((Signer::load(path)?, "marbre agent".to_owned())))
        .collect::<Result<Vec<_>>>()?;
    let options = keygen::PublisherOptions { passphrase, agents };
    let keys = keygen::publisher(folder, &options, Timestamp::now())?;
    if context.json {
        return output::json(&PublisherKeys {
            restore_key: keys.restore_key,
            recipient: keys.recipient,
            publisher_signer: keys.signer.fingerprint(),
            warnings: keys.warnings,
        });
    }
    output::print(&format!("restore key: {}", keys.restore_key.display()));
    output::print(
        "  Keep it where the provider cannot reach it, and a copy in another place. Without it nothing can be restored.",
    );
    output::print(&format!("recipient, for the provider: {}", keys.recipient));
    output::print(&format!("publisher's signing key: {}", keys.signer.fingerprint()));
    let [readme, reader] = keygen::RECOVERY.map(|(name, _)| folder.join(name));
    output::print(&format!("for the day without marbre: {}, {}", readme.display(), reader.display()));
    output::print("  Keep them with each copy of the keys, and print the first.");
    output::print(&format!("whose snapshots you trust: {}", folder.join(keygen::ALLOWED_SIGNERS).display()));
    output::print(
        "  Add the line that the provider gives you for each agent, and copy it to where the keys are.",
    );
    for warning in &keys.warnings {
        output::print(&format!("warning: {warning}"));
    }
    Ok(())
}

fn new_passphrase() -> Result<SecretString> {
    let ask = |prompt| {
        rpassword::prompt_password(prompt)
            .map(SecretString::from)
            .or_kind(ErrorKind::Key, "ask for a passphrase (a terminal is needed)")
    };
    let first = ask("New passphrase of the restore key: ")?;
    let second = ask("Once more: ")?;
    if first.expose_secret().is_empty() || first.expose_secret() != second.expose_secret() {
        return Err(Error::key("the passphrases are empty or differ").remedy("Run the command again."));
    }
    Ok(first)
}
