//! Tests of a plugin, run again against the library that they are of.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::cargo;

/// Runs the program that calls this, which is one of tests, again: with these arguments, by `jackfield plugin test`, against the
/// library of `package`, whose instances live where `isolation` says. How many tests passed; where they already run so, none do.
///
/// # Errors
///
/// Where something cannot be built, or a test fails; with what was printed.
pub fn again(package: &str, isolation: &str, arguments: &[&str]) -> anyhow::Result<usize> {
    if std::env::var_os("JACKFIELD_LIBRARY").is_some() {
        return Ok(0);
    }
    let built = cargo::build(&[package, "jackfield"], "dev")?;
    let mut command = Command::new(built.binary("jackfield")?);
    command
        .args(["plugin", "test", "--isolation", isolation])
        .arg(built.library(package)?)
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(arguments);
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{command:?} failed:\n{stdout}\n{stderr}");
    passed(&stdout).with_context(|| format!("{command:?} says nothing of tests:\n{stdout}\n{stderr}"))
}

/// How many tests passed, as the program that ran them says.
fn passed(text: &str) -> Option<usize> {
    let (_, sum) = text.rsplit_once("test result: ok. ")?;
    let (count, _) = sum.split_once(" passed")?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_program_of_tests_is_read() {
        let text =
            "running 3 tests\n\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(passed(text), Some(2));
        assert_eq!(passed("test result: FAILED. 2 passed"), None);
    }
}
