//! Calls to a disk that may hang. A system call on a dead network mount does not come back for hours, or ever, and cannot
//! be interrupted: its thread is left alone. Whoever waits for it gives up after a while, so that a job goes on with
//! its other targets; and a disk on which several threads hang is not given one more at every question.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::model::human;
use crate::targets::{TargetError, TargetErrorKind};

/// How long one step of a call may take: a read, a write, the sync of a pack on a slow disk.
const PATIENCE: Duration = Duration::from_secs(300);
/// A call that nobody waits for counts as hanging after this time; before, it may be on its way back.
const LEFT_LONG: Duration = Duration::from_secs(60);
/// As many hanging calls as make a disk count as hanging, if it has answered nothing since.
const MOST: usize = 8;
/// The same if it has: those of before a disk was mounted anew never come back, and keep their threads.
const MOST_LOST: usize = 64;
/// How soon a hanging disk is asked again; each time twice as late, and at last once a day.
const AGAIN: Duration = Duration::from_secs(600);
const SELDOM: Duration = Duration::from_secs(86_400);

/// A call that is at work on its own thread.
pub(super) struct Call {
    place: PathBuf,
    /// Fires when nobody waits for the call any more.
    cancel: CancellationToken,
    /// When it last came back from the disk; `None` while it waits for a thread or for something else.
    moved: Mutex<Option<Instant>>,
}

impl Call {
    /// The disk has answered.
    pub(super) fn answered(&self) {
        *lock(&self.moved) = Some(Instant::now());
    }

    /// The disk has answered. Fails when nobody waits for the rest.
    pub(super) fn step(&self, operation: &str) -> Result<(), TargetError> {
        if self.cancel.is_cancelled() {
            return Err(TargetError::cancelled(operation));
        }
        self.answered();
        Ok(())
    }

    /// Waits for something that is not the disk, or until nobody waits for the call.
    pub(super) fn pause(&self, until: impl Future<Output = ()>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        *lock(&self.moved) = None;
        runtime.block_on(self.cancel.run_until_cancelled(until));
        self.answered();
    }

    /// When it will have hung, if nothing moves until then.
    fn ends(&self) -> Instant {
        lock(&self.moved).unwrap_or_else(Instant::now) + PATIENCE
    }

    fn hangs_since(&self) -> Option<Instant> {
        let moved = *lock(&self.moved);
        moved.filter(|at| self.cancel.is_cancelled() && at.elapsed() >= LEFT_LONG)
    }
}

/// Runs a call to the disk at `place` on a thread of its own. Gives up as soon as `cancel` fires, and when the disk does
/// not answer; the call then ends at its next step.
pub(super) async fn run<T: Send + 'static>(
    place: &Path,
    operation: String,
    cancel: &CancellationToken,
    work: impl FnOnce(&Call) -> Result<T, TargetError> + Send + 'static,
) -> Result<T, TargetError> {
    let at_work = AtWork::begin(place, cancel)
        .map_err(|cause| TargetError::new(TargetErrorKind::Unavailable, operation.clone(), cause))?;
    let (call, named) = (at_work.0.clone(), operation.clone());
    let _ends_the_call = call.cancel.clone().drop_guard();
    let mut thread = tokio::task::spawn_blocking(move || {
        at_work.0.step(&named)?;
        work(&at_work.0)
    });
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(TargetError::cancelled(operation)),
            done = &mut thread => {
                return done.unwrap_or_else(|e| Err(TargetError::given_up(operation, e)));
            }
            () = sleep_until(call.ends()) => {}
        }
        if Instant::now() >= call.ends() {
            let cause = format!("the disk has not answered for {}", human::duration(PATIENCE.as_secs_f64()));
            return Err(TargetError::new(TargetErrorKind::Unavailable, operation, cause));
        }
    }
}

/// A disk with calls at work.
#[derive(Default)]
struct Disk {
    calls: Vec<Arc<Call>>,
    /// When a call last came back.
    answered: Option<Instant>,
    /// When one was last let through although others hang.
    tried: Option<Instant>,
}

/// Threads belong to the process, so what is known of them does too.
static DISKS: LazyLock<Mutex<HashMap<PathBuf, Disk>>> = LazyLock::new(Mutex::default);

impl Disk {
    /// Says why one more call cannot be made.
    fn admit(&mut self) -> Result<(), String> {
        let mut hanging: Vec<Instant> = self.calls.iter().filter_map(|call| call.hangs_since()).collect();
        let most = if hanging.len() < MOST_LOST { MOST } else { MOST_LOST };
        if most == MOST {
            hanging.retain(|since| Some(*since) > self.answered);
        }
        hanging.sort();
        let (Some(oldest), Some(newest)) = (hanging.first(), hanging.last()) else { return Ok(()) };
        let Some(tries) = hanging.len().checked_sub(most) else { return Ok(()) };
        let wait = AGAIN.saturating_mul(2_u32.saturating_pow(tries as u32)).min(SELDOM);
        let next = self.tried.map_or(*newest, |tried| tried.max(*newest)) + wait;
        if Instant::now() >= next {
            self.tried = Some(Instant::now());
            return Ok(());
        }
        let of = |time: Duration| human::duration(time.as_secs_f64());
        Err(format!(
            "{} calls hang on this disk, the oldest for {}, and none comes back; it is asked again in {}",
            hanging.len(),
            of(oldest.elapsed()),
            of(next - Instant::now())
        ))
    }
}

/// A call in the list of its disk. Dropped on the call's thread, when it has come back.
struct AtWork(Arc<Call>);

impl AtWork {
    fn begin(place: &Path, cancel: &CancellationToken) -> Result<Self, String> {
        let mut disks = lock(&DISKS);
        let disk = disks.entry(place.to_owned()).or_default();
        disk.admit()?;
        let call = Call { place: place.to_owned(), cancel: cancel.child_token(), moved: Mutex::default() };
        let call = Arc::new(call);
        disk.calls.push(call.clone());
        Ok(Self(call))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let asked = lock(&self.0.moved).is_some();
        let mut disks = lock(&DISKS);
        let Some(disk) = disks.get_mut(&self.0.place) else { return };
        disk.calls.retain(|call| !Arc::ptr_eq(call, &self.0));
        if asked {
            disk.answered = Some(Instant::now());
        }
        if disk.calls.is_empty() {
            disks.remove(&self.0.place);
        }
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use tokio::time::advance;

    use super::*;

    type Answer = Result<u32, TargetError>;

    /// A call that hangs until somebody answers it, and whoever waits for it.
    async fn hanging(
        place: &'static str,
        cancel: &CancellationToken,
    ) -> (Sender<()>, tokio::task::JoinHandle<Answer>) {
        let ((answer, asked), (begin, begun)) = (channel::<()>(), channel::<()>());
        let cancel = cancel.clone();
        let waiting = async move {
            let work = move |_: &Call| {
                begin.send(()).unwrap();
                Ok(asked.recv().map_or(0, |()| 7))
            };
            run(Path::new(place), "list".to_owned(), &cancel, work).await
        };
        let waiting = tokio::spawn(waiting);
        settle().await;
        begun.recv().unwrap();
        settle().await;
        (answer, waiting)
    }

    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    fn of_disk(place: &str) -> Option<usize> {
        lock(&DISKS).get(Path::new(place)).map(|disk| disk.calls.len())
    }

    async fn until_back(place: &str) {
        // Threads have a clock of their own.
        while of_disk(place).is_some() {
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_given_up_and_one_that_comes_back_is_not() {
        let cancel = CancellationToken::new();
        let (answer, waiting) = hanging("/hang/one", &cancel).await;
        advance(PATIENCE - Duration::from_secs(1)).await;
        answer.send(()).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 7);
        assert_eq!(of_disk("/hang/one"), None);

        let (answer, waiting) = hanging("/hang/one", &cancel).await;
        advance(PATIENCE + Duration::from_secs(1)).await;
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "list: the disk has not answered for 5 min 0 s");
        assert_eq!((error.kind, of_disk("/hang/one")), (TargetErrorKind::Unavailable, Some(1)));
        answer.send(()).unwrap();
        until_back("/hang/one").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_moves_may_take_as_long_as_it_likes_until_it_is_cancelled() {
        let (cancel, place) = (CancellationToken::new(), Path::new("/hang/slow"));
        let ((go, wait), (stepped, seen)) = (channel::<()>(), channel::<()>());
        let work = move |call: &Call| {
            for () in wait {
                call.step("put x")?;
                stepped.send(()).unwrap();
            }
            Ok(())
        };
        let token = cancel.clone();
        let waiting = tokio::spawn(async move { run(place, "put x".to_owned(), &token, work).await });
        for _ in 0..5 {
            settle().await;
            go.send(()).unwrap();
            seen.recv().unwrap();
            advance(PATIENCE - Duration::from_secs(1)).await;
            settle().await;
            assert!(!waiting.is_finished());
        }
        cancel.cancel();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind, TargetErrorKind::Cancelled);
        // The thread hears of it at its next step.
        go.send(()).unwrap();
        until_back("/hang/slow").await;
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_something_else_is_not_hanging() {
        let (cancel, (pausing, paused)) = (CancellationToken::new(), channel::<()>());
        let work = move |call: &Call| {
            let pace = tokio::time::sleep(PATIENCE * 5);
            call.pause(async move {
                pausing.send(()).unwrap();
                pace.await;
            });
            call.step("put x")
        };
        let place = Path::new("/hang/paced");
        let waiting = tokio::spawn(async move { run(place, "put x".to_owned(), &cancel, work).await });
        settle().await;
        paused.recv().unwrap();
        for _ in 0..4 {
            advance(PATIENCE).await;
            settle().await;
            assert!(!waiting.is_finished());
        }
        advance(PATIENCE).await;
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_on_which_many_hang_is_asked_seldom_and_is_well_when_one_comes_back() {
        let (cancel, place) = (CancellationToken::new(), "/hang/many");
        let mut calls = Vec::new();
        for _ in 0..MOST {
            let (answer, waiting) = hanging(place, &cancel).await;
            // Whoever waited was itself given up.
            waiting.abort();
            assert!(waiting.await.is_err());
            calls.push(answer);
        }
        let ask = |place| AtWork::begin(Path::new(place), &cancel).map(drop);
        assert_eq!(of_disk(place), Some(MOST));
        assert_eq!(ask(place), Ok(()), "they may be on their way back");
        advance(LEFT_LONG).await;
        let refused = run(Path::new(place), "list".to_owned(), &cancel, |_| Ok(()));
        let error = refused.await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "list: 8 calls hang on this disk, the oldest for 1 min 0 s, and none comes back; it is asked again in \
             9 min 0 s"
        );
        assert_eq!(ask("/hang/other"), Ok(()));
        // One is let through after ten minutes, the next after twenty more.
        for minutes in [9, 20, 40] {
            advance(Duration::from_secs(minutes * 60 - 1)).await;
            assert!(ask(place).is_err(), "{minutes}");
            advance(Duration::from_secs(1)).await;
            let (answer, waiting) = hanging(place, &cancel).await;
            assert!(ask(place).is_err(), "{minutes}");
            waiting.abort();
            assert!(waiting.await.is_err());
            calls.push(answer);
        }
        // Mounted anew, the disk answers, and those that hung never come back.
        let remounted = |_: &Call| Ok(());
        advance(SELDOM).await;
        run(Path::new(place), "list".to_owned(), &cancel, remounted).await.unwrap();
        assert_eq!(of_disk(place), Some(calls.len()));
        for _ in 0..3 {
            assert_eq!(ask(place), Ok(()), "it is well for everybody");
        }
        drop(calls);
        until_back(place).await;
    }
}
