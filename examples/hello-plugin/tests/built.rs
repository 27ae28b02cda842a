//! The same tests, of the built library, as `jackfield plugin test … -- cargo test` runs them.

mod hello;

use jackfield_sdk::testing::library;
use jackfield_stage::again::again;

#[test]
fn the_tests_hold_for_the_built_library_wherever_it_lives() {
    for isolation in ["process", "none"] {
        let passed = again("hello-plugin", isolation, &["hello::"]).unwrap();
        assert!(passed == 2 || library().is_some(), "{isolation}: {passed}");
    }
}
