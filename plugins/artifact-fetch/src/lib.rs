//! Downloads a file and unpacks it.
#![forbid(unsafe_code)]
