//! What a durable 200 costs, as ratios to what the same machine does without one.
//!
//! In one run, with the same signed body of 3 KB over 64 and 256 keep-alive connections:
//! (a) a bare hyper server that reads the body; (b) the same with verify and translate; (e) the floor: (b) with an
//! append to a plain file and a grouped fdatasync; (c) Jackfield, no route matching; (d) Jackfield with one delivery
//! each to a plugin that does nothing, until all are settled. Rounds alternate, so that whatever else the machine
//! does falls on all of them alike; each figure is the median of its rounds. A missed mark is a failure.
//!
//! `cargo bench --package jackfield --bench ingest`

mod floor;
mod measure;
mod server;

use std::process::ExitCode;

use jackfield_stage::marks::Marks;

/// The binary's, so that the servers it is compared with have no worse one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the benchmark, or one of the servers that it compares, in a process of its own.
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut marks = Marks::default();
    let work = match arguments.next().as_deref() {
        Some("serve") => server::serve(&arguments.next().unwrap_or_default(), arguments.next().as_deref()),
        _ => measure::all(&mut marks),
    };
    marks.end(work)
}
