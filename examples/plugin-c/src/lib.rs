#![forbid(unsafe_code)]
//! A plugin in C, and where its library is once this package has been built: all of it is in `count_in_c.c`.

/// The library, for the plugins directory.
pub const LIBRARY: &str = env!("LIBRARY");
