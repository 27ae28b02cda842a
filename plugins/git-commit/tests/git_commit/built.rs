//! The same tests, of the built library.

use jackfield_sdk::testing::library;
use jackfield_stage::again::again;

#[test]
fn what_the_router_loads_commits_as_the_tests_say() {
    // In its sandbox it runs git, and no script that a test has written, such as a hook or what plays ssh.
    let passed = again("git-commit", "process", &["commits::", "hostile::"]).unwrap();
    assert!(passed > 15 || library().is_some(), "{passed}");
}
