//! Which CPUs the process may use. Not inside: threads.
