//! `marbre man`

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use serde::Serialize;

use super::context::Context;
use super::{Cli, output};
use crate::error::{BoxError, Error, Result, ResultExt};

/// What clap_mangen puts above the text that stands below the help, and what that text is.
const BELOW_THE_HELP: (&str, &str) = (".SH EXTRA\n", ".SH \"EXIT STATUS\"\n");

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A folder, for a page of each verb, as marbre-snapshot.1 [default: print marbre's own page]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// What `man --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Pages {
    /// The page of marbre itself, where no folder is given.
    page: Option<String>,
    /// The pages that were written.
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Pages { page: None, files: Vec::new() };
    match &args.folder {
        None => pages.page = Some(page(&command)? + &around()),
        Some(folder) => {
            fs::create_dir_all(folder).map_err(|e| unwritable(folder, e))?;
            write_pages(&command, folder, &mut pages.files)?;
        }
    }
    output::report(context.json, &pages, print)
}

fn print(pages: &Pages) {
    match &pages.page {
        Some(page) => output::print(page.trim_end()),
        None => pages.files.iter().for_each(|file| output::print(&file.display().to_string())),
    }
}

/// Writes the pages of a command and of all below it. The verbs come first, so marbre's own is the last one.
fn write_pages(command: &Command, folder: &Path, written: &mut Vec<PathBuf>) -> Result<()> {
    for verb in command.get_subcommands() {
        write_pages(verb, folder, written)?;
    }
    let is_whole = command.get_name() == env!("CARGO_PKG_NAME");
    let text = page(command)? + &if is_whole { around() } else { String::new() };
    let file = folder.join(man(command).get_filename());
    fs::write(&file, text).map_err(|e| unwritable(&file, e))?;
    written.push(file);
    Ok(())
}

fn unwritable(path: &Path, cause: impl Into<BoxError>) -> Error {
    let remedy = "Name a folder in which this user may write.";
    Error::preflight(format!("failed to write {}", path.display())).cause(cause).remedy(remedy)
}

fn man(command: &Command) -> Man {
    Man::new(command.clone()).source(concat!("marbre ", env!("CARGO_PKG_VERSION"))).manual("marbre")
}

fn page(command: &Command) -> Result<String> {
    let mut page = Vec::new();
    man(command).render(&mut page).or_internal("make the manual page")?;
    let page = String::from_utf8(page).or_internal("read the manual page")?;
    let (there, meant) = BELOW_THE_HELP;
    Ok(page.replace(there, meant))
}

/// What belongs to marbre as a whole: its files and variables, and where more is said.
fn around() -> String {
    let mut roff = Roff::new();
    let mut list = |section: &str, entries: &[(&str, &str)]| {
        roff.control("SH", [section]);
        for (name, what) in entries {
            roff.control("TP", []).text([bold(*name)]).text([roman(*what)]);
        }
    };
    list(
        "FILES",
        &[
            ("/etc/marbre/marbre.toml", "The configuration. config.example.toml holds every setting."),
            ("/var/lib/marbre", "What the agent remembers, and the reports of its drills."),
        ],
    );
    list(
        "ENVIRONMENT",
        &[
            ("MARBRE_CONFIG", "The configuration, where --config names none."),
            ("MARBRE_LOG", "What is logged on standard error, as marbre=debug."),
            ("NO_COLOR", "Nothing is coloured where this is set."),
        ],
    );
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(concat!(
        "RECOVERY.md: restoring without marbre. README.md, and the other documents beside it: ",
        env!("CARGO_PKG_REPOSITORY")
    ))]);
    roff.to_roff()
}
