//! The binary `jackfield`.

use std::process::ExitCode;

fn main() -> ExitCode {
    jackfield::cli::main()
}
