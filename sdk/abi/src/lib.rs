//! The C ABI between Jackfield and its plugins: structs and contracts, no code.
