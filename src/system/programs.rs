//! The system's own programs, and how children are started.

use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, mpsc};

use tokio::process::Command;

use crate::error::{Error, Result, ResultExt};

/// A program of the system, in `$PATH` or the usual folders.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(usual)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// The same, for a program that cannot be done without.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    find(name).ok_or_else(|| {
        Error::preflight(format!("the program {name}, which drills need, is not installed on this host"))
            .remedy("Install util-linux and coreutils.")
    })
}

/// A word, quoted for a shell if necessary.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// util-linux can have the kernel kill a child with its parent; std cannot without unsafe code. Without it, an
/// orphan ends when it next writes to us, or notices that its snapshot is gone.
pub(crate) static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    ["/usr/bin/setpriv", "/bin/setpriv"].map(PathBuf::from).into_iter().find(|path| path.is_file())
});

type Job = Box<dyn FnOnce() + Send>;

/// The kernel's "parent" is the thread that started the child. The runtime's threads may end before
/// the process does, so all children are started by one thread that never ends.
pub(crate) fn spawn_on_lasting_thread(
    mut command: Command,
) -> impl Future<Output = Result<std::io::Result<tokio::process::Child>>> {
    static SPAWNER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Mutex::new(sender)
    });
    let (answer, started) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let job: Job = Box::new(move || {
        let _runtime = runtime.enter();
        // If the run was cancelled nobody waits any more; the child is then killed on drop.
        drop(answer.send(command.spawn()));
    });
    let sent = SPAWNER.lock().is_ok_and(|spawner| spawner.send(job).is_ok());
    async move {
        if !sent {
            return Err(Error::internal("the thread that starts programs is gone"));
        }
        started.await.or_internal("start a program")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_shells() {
        assert_eq!(shell_word("/a/b-1.2"), "/a/b-1.2");
        assert_eq!(shell_word("/a b/it's"), r"'/a b/it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
