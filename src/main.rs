//! The `marbre` command: see `marbre help` and the README.

use std::process::ExitCode;

/// Child processes are asked to die with the thread that started them, so children are only started from
/// threads that live as long as the process: the main thread and the runtime's workers. Nothing may
/// call `tokio::task::block_in_place`, which would let a worker go.
fn main() -> ExitCode {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(2).max_blocking_threads(1024).enable_all().build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("marbre: failed to start its threads\n  cause: {e}");
            return ExitCode::FAILURE;
        }
    };
    let (code, grace) = runtime.block_on(marbre::run());
    runtime.shutdown_timeout(grace);
    ExitCode::from(code)
}
