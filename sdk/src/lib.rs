//! All that the author of a Jackfield plugin needs.
