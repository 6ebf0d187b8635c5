//! Which keyed hash for rows: nanoseconds per row for lengths that subscription tables have.
//!
//!     cargo bench --bench row_hash
//!
//! BLAKE2b is the peer, because Python's standard library has it; eight rows at a time where the
//! processor allows (`many`) is its fastest form here.

use std::hint::black_box;
use std::time::Instant;

use blake2b_simd::Params;
use blake2b_simd::many::{HashManyJob, hash_many};

const ROWS: usize = 1 << 19;
const KEY: [u8; 32] = [7; 32];

fn nanoseconds(work: impl Fn()) -> f64 {
    let best = (0..5)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .min()
        .unwrap_or_default();
    best.as_nanos() as f64 / ROWS as f64
}

fn main() {
    println!(
        "{:>6} {:>14} {:>14} {:>18} {:>7}",
        "bytes", "blake3, ns", "blake2b, ns", "blake2b many, ns", "ratio"
    );
    for length in [60, 120, 200, 400] {
        let row = vec![b'x'; length];
        let blake3 = nanoseconds(|| {
            for _ in 0..ROWS {
                black_box(marbre::internal::row_hash(&KEY, black_box(&row)));
            }
        });
        let mut params = Params::new();
        params.key(&KEY).hash_length(16);
        let blake2b = nanoseconds(|| {
            for _ in 0..ROWS {
                black_box(params.hash(black_box(&row)));
            }
        });
        let many = nanoseconds(|| {
            for _ in 0..ROWS / 64 {
                let mut jobs: Vec<HashManyJob<'_>> =
                    (0..64).map(|_| HashManyJob::new(&params, &row)).collect();
                hash_many(jobs.iter_mut());
                black_box(jobs.iter().map(|job| job.to_hash().as_bytes()[0]).fold(0, u8::wrapping_add));
            }
        });
        let ratio = blake3 / blake2b.min(many);
        println!("{length:>6} {blake3:>14.0} {blake2b:>14.0} {many:>18.0} {ratio:>7.2}");
    }
}
