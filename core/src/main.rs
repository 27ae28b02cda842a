//! The binary `jackfield`.
fn main() {}
