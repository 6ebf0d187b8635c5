//! `marbre report`

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

use super::compose::source::{Source, SourceArgs};
use super::compose::{glance, jobs};
use super::context::Context;
use super::{output, signals};
use crate::config::{Config, DrillKey};
use crate::error::{Error, ErrorKind, Result};
use crate::health::presence;
use crate::health::status::{DatabaseStatus, StatusReport};
use crate::job::drill::kept;
use crate::model::id::{DatabaseId, DatabaseName, DrillId, PublisherName};
use crate::report::overview::{self, Known, Overview};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The database whose newest drill's report is wanted, as it was written then [default: one page over all databases]
    #[arg(value_name = "DB")]
    name: Option<String>,

    /// Only the databases of this publisher, in its language
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    publisher: Option<String>,

    /// Write the page to this file, which only you can read [default: print it]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What the page is written as
    #[arg(long, value_enum, default_value = "html", value_name = "FORMAT")]
    format: Format,
}

/// What a page is written as.
#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Html,
    Markdown,
}

/// What `report --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Written {
    /// What the page is written as.
    format: Format,
    /// Whose databases it is about; `null` where they are of several publishers.
    publisher: Option<PublisherName>,
    /// Which database; `null` for the page over all.
    database: Option<DatabaseName>,
    /// The drill whose report it is; `null` for the page over all.
    drill: Option<DrillId>,
    /// The page, where no file is given.
    page: Option<String>,
    /// The file that it was written to.
    file: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<()> {
    let mut written = match &args.name {
        Some(name) => newest_drill(name, args.format, &context.config()?)?,
        None => over_all(args, context).await?,
    };
    if let Some(file) = &args.output {
        write(file, written.page.take().unwrap_or_default().as_bytes())?;
        written.file = Some(file.clone());
    }
    output::report(context.json, &written, |written| match &written.page {
        // The very bytes that its hash in the receipt is of.
        Some(page) => output::print(page.strip_suffix('\n').unwrap_or(page)),
        None => written.file.iter().for_each(|file| output::print(&file.display().to_string())),
    })
}

/// The report of the newest drill, as it is kept.
fn newest_drill(name: &str, format: Format, config: &Config) -> Result<Written> {
    let id = &config.database(name)?.id;
    let folder = kept::folder(&config.report_dir, id);
    let drill = kept::newest(&folder)?.ok_or_else(|| {
        let what = format!("there is no report of a drill of {id} in {}", folder.display());
        Error::new(ErrorKind::NotFound, what).remedy(format!("Make a drill: marbre drill {id}"))
    })?;
    let ending = match format {
        Format::Html => kept::HTML,
        Format::Markdown => kept::MARKDOWN,
    };
    let file = kept::file(&folder, &drill, ending);
    let page = fs::read_to_string(&file).map_err(|e| {
        Error::preflight(format!("failed to read the report {}", file.display()))
            .cause(e)
            .remedy(format!("Look whether it is there and readable, or make another one: marbre drill {id}"))
    })?;
    let DatabaseId { publisher, database } = id.clone();
    Ok(Written {
        format,
        publisher: Some(publisher),
        database: Some(database),
        drill: Some(drill),
        page: Some(page),
        file: None,
    })
}

/// The page over all databases, or over those of one publisher.
async fn over_all(args: &Args, context: &Context) -> Result<Written> {
    let cancel = signals::cancellation()?;
    let config = context.config()?;
    let (source, patience) = (SourceArgs::default(), Some(glance::PATIENCE));
    let mut sources = Source::all_within(patience, &source, None, None, context, &cancel).await?;
    if let Some(publisher) = &args.publisher {
        sources = glance::of_publisher(sources, publisher)?;
    }
    let now = Timestamp::now();
    let databases = glance::statuses(&sources, Some(&config), None, now, &cancel).await?;
    let known = databases.iter().map(|database| Ok((database.id(), known(&config, database)?)));
    let known = known.collect::<Result<BTreeMap<_, _>>>()?;
    let publisher = only_publisher(&databases);
    let daemon = presence::look(&config.state_dir, now);
    let locale = match &publisher {
        Some(publisher) => jobs::locale(&config, publisher),
        None => jobs::default_locale(),
    };
    let status = StatusReport::of(now, databases, Some(daemon));
    let page = Overview { status, publisher: publisher.clone(), known };
    let page = match args.format {
        Format::Html => overview::html(&page, &locale),
        Format::Markdown => overview::markdown(&page, &locale),
    };
    Ok(Written { format: args.format, publisher, database: None, drill: None, page: Some(page), file: None })
}

/// Whose databases these are, where they are of one publisher.
fn only_publisher(databases: &[DatabaseStatus]) -> Option<PublisherName> {
    let first = &databases.first()?.publisher;
    databases.iter().all(|database| database.publisher == *first).then(|| first.clone())
}

/// What the configuration and the reports on this host say of a database.
fn known(config: &Config, database: &DatabaseStatus) -> Result<Known> {
    let id = database.id();
    let folder = kept::folder(&config.report_dir, &id);
    let report = |drill: &DrillId| kept::read(&folder, drill);
    Ok(Known {
        no_key: config.database(&id.to_string())?.drills.key == DrillKey::None,
        last_drill: database.last_drill.as_ref().and_then(|drill| report(&drill.drill)),
        proof: overview::last_proof(database).and_then(|proof| report(&proof.drill)),
    })
}

/// Writes a file that only this user can read. What was there stays until the new one is whole.
fn write(file: &Path, page: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| {
        Error::preflight(format!("failed to write the page to {}", file.display()))
            .cause(e)
            .remedy("Name a file in a folder that exists and that you may write to.")
    };
    if file.exists() && !file.is_file() {
        return Err(failed(std::io::Error::other("it exists, and is not a regular file")));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    new.write_all(page).and_then(|()| new.as_file().sync_all()).map_err(failed)?;
    new.persist(file).map(drop).map_err(|e| failed(e.error))
}
