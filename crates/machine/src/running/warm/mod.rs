//! Machines that wait for their orders: saving one as a template, starting one from a template,
//! and giving the orders.

pub mod orders;
pub(super) mod saved;
