#![forbid(unsafe_code)]
//! The plugin `trial` with another allocator than the program that loads it.

#[path = "../../trial/src/lib.rs"]
pub mod trial;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
