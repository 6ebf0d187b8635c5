//! What `doctor` checks of a throwaway server's surroundings.

use std::path::Path;

use crate::engine::scratch::isolation_check;
use crate::error::{Error, Result};
use crate::model::check::{Check, CheckState};
use crate::model::isolation::Isolation;
use crate::system::runner::Runner;

/// The check of a throwaway server's programs.
pub(crate) const SERVER: &str = "scratch server";
const USER: &str = "scratch user";
const FOLDER: &str = "scratch folder";

fn passed(name: &str, found: &str) -> Check {
    Check { name: name.to_owned(), state: CheckState::Ok, found: found.to_owned(), remedy: None }
}

fn failed(name: &str, error: &Error) -> Check {
    let remedy = error.remedy_text().map(str::to_owned);
    Check { name: name.to_owned(), state: CheckState::Fail, found: error.to_string(), remedy }
}

/// Checks the user, the isolation and the folder. `refuse` fails for a folder that the engine cannot use.
pub(crate) async fn surroundings(
    user: &str,
    isolation: Isolation,
    folder: &Path,
    refuse: impl Fn(&Path) -> Result<()>,
) -> Vec<Check> {
    let runner = match Runner::new(user, Isolation::None).await {
        Ok(runner) => runner,
        Err(e) => {
            let skipped = Check {
                name: FOLDER.to_owned(),
                state: CheckState::Skipped,
                found: "there is no user".to_owned(),
                remedy: Some("Fix the user for drills first.".to_owned()),
            };
            return vec![failed(USER, &e), skipped];
        }
    };
    let name = runner.user.as_ref().map_or("the user that runs marbre", |user| &user.name);
    let refused = Runner::new(user, isolation).await.err();
    let reachable = async {
        refuse(folder)?;
        reachable(&runner, folder).await
    };
    vec![
        passed(USER, name),
        isolation_check(isolation, refused.as_ref()),
        match reachable.await {
            Ok(found) => passed(FOLDER, &found),
            Err(e) => failed(FOLDER, &e),
        },
    ]
}

/// A drill opens the folder of drills itself if necessary; the folders above it must be open now.
async fn reachable(runner: &Runner, folder: &Path) -> Result<String> {
    let scratch = folder.parent().unwrap_or(folder);
    let above = scratch.ancestors().skip(1).find(|path| path.is_dir());
    if let Some(above) = above {
        runner.refuse_closed(above).await?;
    }
    Ok(scratch.display().to_string())
}
