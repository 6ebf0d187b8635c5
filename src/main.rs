//! The `marbre` command: see `marbre help` and the README.

use std::process::ExitCode;

/// Child processes are asked to die with the thread that started them, so children are only started from
/// threads that live as long as the process: the main thread and the runtime's workers. Nothing may
/// call `tokio::task::block_in_place`, which would let a worker go.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    ExitCode::from(marbre::cli::run().await)
}
