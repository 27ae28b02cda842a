//! Commits files to a git repository.
#![forbid(unsafe_code)]
