//! The example in C builds by the command in its README, without a warning, and is what it should be from outside.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use jackfield_abi as abi;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The command in the README, as words.
fn build_command() -> Vec<String> {
    let readme =
        std::fs::read_to_string(workspace().join("examples/plugin-in-c/README.md")).expect("it is there");
    let start = readme.find("cc -std").expect("the README says how to build it");
    let command = &readme[start..];
    let end = command.find("\ncp ").expect("and what then");
    command[..end]
        .split_whitespace()
        .filter(|word| *word != "\\")
        .map(str::to_owned)
        .collect()
}

fn build() -> PathBuf {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("count_in_c.so");
    let words = build_command();
    let words = words.iter().map(|word| {
        if word == "count_in_c.so" {
            library.as_os_str()
        } else {
            word.as_ref()
        }
    });
    let (program, args) = (build_command()[0].clone(), words.skip(1));
    let output = Command::new(&program)
        .args(args)
        .arg("-Werror")
        .current_dir(workspace())
        .output()
        .unwrap_or_else(|error| panic!("this test needs the C compiler `{program}`: {error}"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    library
}

#[test]
fn the_example_builds_by_its_readme_and_carries_its_identity() {
    let library = std::fs::read(build()).unwrap();
    let at = library
        .windows(8)
        .position(|window| window == abi::MAGIC)
        .expect("the note is in the file");
    let ident = &library[at..];
    let word = |at: usize| u32::from_le_bytes(ident[at..at + 4].try_into().unwrap());
    assert_eq!(usize::try_from(word(8)).unwrap(), size_of::<abi::Ident>());
    assert_eq!(
        [word(12), word(16), word(20)],
        [abi::ABI_MAJOR, abi::ABI_MINOR, 0]
    );
    assert!(ident[24..].starts_with(b"count-in-c\0"));
    assert!(ident[88..].starts_with(b"1.0.0\0"));
}
