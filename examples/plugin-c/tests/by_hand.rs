//! The example in C builds by the command in its README, without a warning, and is what it should be from outside.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use jackfield_abi as abi;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The command in the README, as words.
fn build_command() -> Vec<String> {
    let readme =
        std::fs::read_to_string(workspace().join("examples/plugin-c/README.md")).expect("it is there");
    let start = readme.find("cc -std").expect("the README says how to build it");
    let command = &readme[start..];
    let end = command.find("\ncp ").expect("and what then");
    command[..end]
        .split_whitespace()
        .filter(|word| *word != "\\")
        .map(str::to_owned)
        .collect()
}

/// Builds the library under a name that no other test uses at the same time.
fn build() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let library =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("count_in_c-{}-{number}.so", std::process::id()));
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

#[test]
fn the_example_counts_for_a_host_that_is_written_in_c_as_well() {
    let library = build();
    let source = workspace().join("examples/plugin-c/tests/host.c");
    let host = Path::new(env!("CARGO_TARGET_TMPDIR")).join("host");
    let built = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&host)
        .arg("-I")
        .arg(workspace().join("sdk/abi/include"))
        .arg(source)
        .arg("-ldl")
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let output = Command::new(host).arg(library).arg("{}").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed,
        "count-in-c 1.0.0\n1 0 {\"count\":1}\n1 0 {\"count\":2}\nstuck: 0\n"
    );
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "log count-in-c: counting \n"
    );
}
