//! Report on what this host has and lacks for running machines (`chrootvm --doctor`).
//!
//! [`gather`] and [`kernel_facts`] do all I/O and fill in [`facts`]; [`findings`] and [`kernels`] judge the
//! facts without I/O; [`report`] formats their findings.
//!
//! | Module | What it does | Uses |
//! |---|---|---|
//! | [`packages`] | knows each distribution's packages and commands | – |
//! | [`report`] | defines a finding and formats findings | – |
//! | [`guest_modules`] | lists the kernel modules that guests use | – |
//! | [`facts`] | defines what is known of the host | `packages`, `guest_modules` |
//! | [`kernel_facts`] | fills in the facts about kernels | `facts`, other rooms |
//! | [`gather`] | fills in all facts | `kernel_facts`, `facts`, other rooms |
//! | [`kernels`] | judges the kernels | `facts`, `report` |
//! | [`findings`] | judges everything else, and orders the findings | `kernels`, `facts`, `report` |

pub mod facts;
pub mod findings;
pub mod gather;
pub mod guest_modules;
pub mod kernel_facts;
pub mod kernels;
pub mod packages;
pub mod report;
