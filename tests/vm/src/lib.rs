//! Boots real kernels and asserts what the guest does.
