//! `marbre completions`

use clap::{CommandFactory, ValueEnum};
use clap_complete::{generate, shells};
use serde::Serialize;

use super::context::Context;
use super::{Cli, output};
use crate::error::{Result, ResultExt};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// A shell that marbre has completions for.
#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What `completions --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
    /// Its script.
    script: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let completions = Completions { shell: args.shell, script: script(args.shell)? };
    output::report(context.json, &completions, |completions| output::print(completions.script.trim_end()))
}

fn script(shell: Shell) -> Result<String> {
    let (mut command, mut script) = (Cli::command(), Vec::new());
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, "marbre", &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, "marbre", &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, "marbre", &mut script),
    }
    String::from_utf8(script).or_internal("read the completions")
}
